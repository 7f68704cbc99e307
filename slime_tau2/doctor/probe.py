"""Run inside a Ray job, with the environment that training will have: says what arrived there, on every node.

`python3 -P probe.py JSON`: a Question comes in, and the last line of the output is MARK and the JSON of a Report. It
needs nothing but Ray and the standard library: on a node where this package cannot be imported that must be a finding,
not a crash.

Each node is asked by a task without CPUs, pinned to it: slime pins its RolloutManager to none, so that it may come to
life on any.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from types import ModuleType
from typing import Any, TypedDict, TypeVar

MARK = "slime_tau2.doctor.probe: "
PATIENCE_S = 10.0

Answer = TypeVar("Answer")


class Question(TypedDict):
    """What each node is asked."""

    modules: list[str]
    """Modules that must be there."""
    hooks: bool
    """Whether our hooks are imported as well."""
    variables: dict[str, str]
    """The environment that the job should have."""
    folders: list[str]
    """Folders that must be readable."""
    token: str
    """A file that lies in the output folder of the machine that asks; "" where there is none."""
    keys: list[str]
    """Variables that must be set."""
    user: str
    """The user simulator's URL; "" where it is not asked for."""
    user_key: str
    """The variable of the key that it may see."""
    patience_s: float
    """How long one node may take to answer."""
    several: bool
    """Whether the run has more than one node: then each must reach the others."""


class Node(TypedDict, total=False):
    """What one node says. With `error`, only that, `ip` and `gpus` are there."""

    ip: str
    gpus: int
    error: str
    """Why nothing could be asked of it."""
    host: str
    missing: list[str]
    """Modules that cannot be found."""
    broken: str
    """What went wrong with importing the hooks, or with tau2's data; else ""."""
    differs: list[str]
    """Variables that have another value than asked for."""
    folders: dict[str, str]
    """{path: why it cannot be used, or ""}."""
    token: bool
    """Whether the token's file is there."""
    absent_keys: list[str]
    user: str
    """Why the user simulator cannot be used from there, or ""."""
    network: list[str]
    """What is wrong with its way to other nodes, one line each; absent where there are none."""


class Report(TypedDict):
    """What the cluster has: GPUs registered and free now, CPUs, and its nodes."""

    gpus: int
    gpus_free: int
    cpus: int
    nodes: list[Node]


def look(question: Question) -> Node:
    """What this process sees: modules, variables, folders, the token, and the user simulator over HTTP."""
    missing = [module for module in question["modules"] if not _is_there(module)]
    return {
        "host": socket.gethostname(),
        "missing": missing,
        "broken": "" if missing or not question["hooks"] else imports(),
        "differs": sorted(n for n, v in question["variables"].items() if os.environ.get(n) != v),
        "folders": {folder: _unusable(folder) for folder in question["folders"]},
        "token": not question["token"] or os.path.exists(question["token"]),
        "absent_keys": [n for n in question["keys"] if not os.environ.get(n)],
        "user": reach(question["user"], question["user_key"]) if question["user"] else "",
    }


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _unusable(folder: str) -> str:
    """Why a folder cannot be read; empty where it can."""
    if not os.path.isdir(folder):
        return "does not exist"
    return "" if os.access(folder, os.R_OK | os.X_OK) else "cannot be read"


def imports() -> str:
    """Why the hooks cannot be imported as slime imports them, or what tau2's data lacks; empty where all is well."""
    try:
        from slime_tau2.doctor import findings, installation
        from slime_tau2.hooks import data_source  # noqa: F401

        return "; ".join(findings.as_line(f)[6:] for f in installation.tau2() if f.status == "fail")
    except Exception as error:  # whatever an installation can be short of
        return f"the hooks cannot be imported: {type(error).__name__}: {error}"


def reach(url: str, key: str) -> str:
    """Why no server answers at `url`/models from here; empty where one does.

    It is asked without any proxy, as the episodes ask. `key` names the variable of a key, which is for this server: it
    does not follow a redirect.
    """
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/models")
        if os.environ.get(key):
            request.add_unredirected_header("Authorization", f"Bearer {os.environ[key]}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as reply:
            reply.read(1)
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # the last one: what answers does not speak HTTP
        return f"does not answer ({getattr(error, 'reason', error)})"


def beside(name: str) -> ModuleType:
    """A module of this folder, by its path: its package may not be importable."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"doctor_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(question: Question) -> Report:
    """Ask every node of Ray's cluster."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def on(node: dict[str, Any], thing: Any, **options: Any) -> Any:
        """A function or class, to be run on one node without any of its CPUs."""
        pinned = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        return ray.remote(thing).options(num_cpus=0, scheduling_strategy=pinned, **options)

    def answer(task: Any, default: Answer) -> tuple[Answer, str]:
        """(the answer, "") or (default, why there is none).

        A node that died, or whose Python cannot start, gives none; what the others say is worth having all the same.
        """
        try:
            return ray.get(task, timeout=question["patience_s"]), ""
        except Exception as error:
            return default, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"

    ray.init(log_to_driver=False, logging_level="ERROR")
    alive = [n for n in ray.nodes() if n["Alive"]]

    # 1. what each node sees
    nodes: list[Node] = []
    looks = [on(node, look, max_retries=0).remote(question) for node in alive]
    for listed, task in zip(alive, looks, strict=True):
        nothing: Node = {}
        node, why = answer(task, nothing)
        node["ip"] = listed["NodeManagerAddress"]
        node["gpus"] = int(listed["Resources"].get("GPU", 0))
        if why:
            node["error"] = why
        nodes.append(node)

    # 2. whether they reach each other: each listens, then each connects to all others
    if question["several"]:
        network = beside("network")
        ray.cloudpickle.register_pickle_by_value(network)
        checks = [on(node, network.wrong, max_retries=0).remote(True) for node in alive]
        wrong = [answer(task, list[str]())[0] for task in checks]
        listeners = [on(node, network.Listener).remote() for node in alive]  # alive as long as they are named here
        nowhere: tuple[str, int] | None = None
        addresses = [answer(listener.where.remote(), nowhere)[0] for listener in listeners]
        attempts = []
        for n, node in enumerate(alive):
            others = [tuple(address) for m, address in enumerate(addresses) if m != n and address]
            attempts.append(on(node, network.unreachable, max_retries=0).remote(others))
        for seen, lines, task in zip(nodes, wrong, attempts, strict=True):
            unreachable, _ = answer(task, list[str]())
            seen["network"] = [*lines, *(f"does not reach {line}" for line in unreachable)]

    registered, free = ray.cluster_resources(), ray.available_resources()
    return {
        "gpus": int(registered.get("GPU", 0)),
        "gpus_free": int(free.get("GPU", 0)),
        "cpus": int(registered.get("CPU", 0)),
        "nodes": nodes,
    }


if __name__ == "__main__":
    print(MARK + json.dumps(main(json.loads(sys.argv[1]))), flush=True)
