"""The job's runtime environment, as JSON: the settings given as NAME=VALUE, and those of this shell's variables that
the job needs.

Ray gives a job nothing of the shell that submits it: tau2's data, a network interface or a proxy's exceptions that are
set here alone would be absent in the actors. What is passed on appears on a command line and in Ray's dashboard, so
that no secret may be in it. A name that looks like a key is left out, and so is a URL with a user or a password; where
JOB_ENV asks for one, the launch ends. They belong into the environment of `ray start`, on every node.
"""

from __future__ import annotations

import json
import os
import re
import sys

PREFIXES = (
    "TAU2_",
    "SLIME_",
    "NODES_",
    "NCCL_",
    "GLOO_",
    "TP_SOCKET_",
    "UCX_",
    "NVSHMEM_",
    "MC_",
    "NVTE_",
    "SGLANG_",
    "SGL_",
    "TMS_",
    "RAY_DEDUP_",
)
NAMES = (
    *("no_proxy", "NO_PROXY", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TENSORBOARD_DIR"),
    *("WANDB_MODE", "WANDB_DIR", "WANDB_BASE_URL", "WANDB_ENTITY", "LITELLM_LOCAL_MODEL_COST_MAP"),
)
OURS = ("SLIME_DIR", "TAU2_CONFIG")
"""Settings of the launch scripts: the command has them already."""
ONE_NODES = ("SLIME_HOST_IP",)
"""One node's own: given to all, each would announce its servers at the address of the one that submitted."""
SECRET = re.compile(r"KEY|TOKEN|PASS|SECRET|CREDENTIAL|AUTH|(^|_)PAT(_|$)", re.IGNORECASE)
HARMLESS = re.compile(r"_KEY_ENV$|_IB_PKEY$|(^|_)MAX_[A-Z]+_TOKENS(?=_|$)", re.IGNORECASE)
"""The name of a variable, the number of an InfiniBand partition, and a count: they only look like secrets."""
USER_IN_URL = re.compile(r"://[^/?#\s]*@")
"""A password, or a token in the user's place."""


def secret(name: str, value: str) -> str:
    """Why a variable may not be passed on; empty where it may."""
    if SECRET.search(HARMLESS.sub("", name)):
        return f"{name} looks like a secret"
    return f"{name} holds a URL with a user or a password" if USER_IN_URL.search(value) else ""


def environment(fixed: dict[str, str], here: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables of the job, and what to say of those that it does not get.

    Args:
        fixed: settings that the job gets as they are.
        here: this shell's variables; JOB_ENV names further ones to pass on.

    Returns:
        (variables, messages of one line); a message that begins with "error: " ends the launch.
    """
    asked = here.get("JOB_ENV", "").split()
    messages = [f"error: JOB_ENV names {n}, which is not set" for n in asked if n not in here]
    passed: dict[str, str] = {}
    for name, value in sorted(here.items()):
        if name in OURS or not (name in asked or name in NAMES or name.startswith(PREFIXES)):
            continue
        why = secret(name, value)
        if name in ONE_NODES and int(here.get("NODES") or 1) > 1:
            messages.append(f"{name} is one node's own and is not passed to the job: launch/node.sh sets it on each")
        elif not why:
            passed[name] = value
        elif name in asked:
            messages.append(f"error: JOB_ENV: {why}; export it before `ray start` instead, on every node")
        else:
            messages.append(f"{why} and is not passed to the job: export it before `ray start`, on every node")
    return {**passed, **fixed}, messages


def main() -> int:
    fixed = dict(argument.split("=", 1) for argument in sys.argv[1:])
    variables, messages = environment(fixed, dict(os.environ))
    for message in messages:
        print(message, file=sys.stderr)
    print(json.dumps({"env_vars": variables}))
    return 2 if any(message.startswith("error: ") for message in messages) else 0


if __name__ == "__main__":
    sys.exit(main())
