"""What a Ray job will find: the cluster's GPUs against the plan, the environment, the folders and the user simulator,
seen from inside.

A job is submitted as the launch scripts submit training, with the same runtime environment; it runs `probe.py` and
reports back. Nothing of this shell's is taken for the job's. A second job waits for the first one's GPUs without a word
of slime's: that is said too.
"""

from __future__ import annotations

import json
import shlex
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_tau2.doctor import probe
from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.doctor.plan import Plan

WHAT = "job"
MODULES = ("slime_tau2", "slime", "megatron.training")
PATIENCE_S = 90.0
"""How long the job may take; DOCTOR_WAIT_S in the environment is another, for a file system on which importing torch
takes minutes.
"""
OWN_CPUS = 2
"""slime's RolloutManager and its lock, beside one CPU a GPU."""


@dataclass(frozen=True)
class Ask:
    """What to ask of a job. `folders` must be there on every node, `output` must be one folder that they share.

    `user_key` is the variable of the key that the server at `user` may see (`credentials.variable`), "" where it sees
    none.
    """

    plan: Plan
    runtime_env: dict[str, Any]
    folders: tuple[str, ...] = ()
    output: Path | None = None
    keys: tuple[str, ...] = ()
    user: str = ""
    user_key: str = ""
    modules: tuple[str, ...] = MODULES
    hooks: bool = True
    patience_s: float = PATIENCE_S


def check(address: str, ask: Ask) -> list[Finding]:
    """Submit the probe and read its report."""
    try:
        from ray.job_submission import JobSubmissionClient  # type: ignore[import-not-found]
    except ImportError:
        fix = "run this inside slime's container: the job is submitted with Ray, too"
        return [fail(WHAT, "ray is not installed here, so that nobody can look into the job", fix)]
    try:
        return examine(JobSubmissionClient(address), ask)
    except Exception as error:  # a job server that answers /api/version only, or went away
        return [
            fail(
                WHAT,
                f"{address}: {type(error).__name__}: {str(error)[:300]}",
                "look at Ray's dashboard, or start Ray anew",
            )
        ]


def examine(client: Any, ask: Ask) -> list[Finding]:
    """The findings, through a job client (Ray's, or a stand-in for it)."""
    running = [j.submission_id or j.job_id for j in client.list_jobs() if j.status in ("RUNNING", "PENDING")]
    token = None if ask.output is None else ask.output / f".doctor-{uuid.uuid4().hex[:12]}"
    try:
        if token is not None:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        told = _run(client, ask, token)
    finally:
        if token is not None:
            token.unlink(missing_ok=True)
    if isinstance(told, Finding):
        return [told]
    return [*cluster(told, ask.plan, running), *inside(told, ask)]


def _run(client: Any, ask: Ask, token: Path | None) -> dict[str, Any] | Finding:
    question = {
        "modules": ask.modules,
        "hooks": ask.hooks,
        "variables": ask.runtime_env.get("env_vars", {}),
        "folders": ask.folders,
        "token": str(token or ""),
        "keys": ask.keys,
        "user": ask.user,
        "user_key": ask.user_key,
        "patience_s": ask.patience_s / 2,
        "several": ask.plan.nodes > 1,
    }
    entry = f"python3 -P {shlex.quote(str(Path(probe.__file__)))} {shlex.quote(json.dumps(question))}"
    job = client.submit_job(entrypoint=entry, runtime_env=ask.runtime_env)
    deadline = time.monotonic() + ask.patience_s
    while (status := str(getattr(client.get_job_status(job), "value", ""))) not in ("SUCCEEDED", "FAILED", "STOPPED"):
        if time.monotonic() > deadline:
            client.stop_job(job)
            fix = f"ray job logs {job}; DOCTOR_WAIT_S=600 where files are slow"
            return fail(WHAT, f"a job that only looks around did not end within {ask.patience_s:.0f} s", fix)
        time.sleep(0.2)
    said = client.get_job_logs(job)
    report = next((line for line in reversed(said.splitlines()) if line.startswith(probe.MARK)), None)
    if report is None:
        told = f"{said}\n{getattr(client.get_job_info(job), 'message', None) or ''}" if status != "SUCCEEDED" else said
        last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "nothing")
        return fail(
            WHAT, f"a job that only looks around ended as {status}, and said last: {last[:300]}", f"ray job logs {job}"
        )
    return json.loads(report.removeprefix(probe.MARK))


def cluster(told: dict[str, Any], plan: Plan, running: list[str]) -> list[Finding]:
    """Ray's nodes, GPUs and CPUs against the plan: with too few, slime's placement group waits for ever."""
    nodes, out = told["nodes"], []
    shown = ", ".join(f"{n['ip']}: {n['gpus']}" for n in nodes)
    able = [n for n in nodes if n["gpus"] >= plan.gpus_per_node]
    start = f"ray start --head --num-gpus {plan.gpus_per_node}"
    if plan.nodes > 1:
        start = "launch/node.sh head on the first node, launch/node.sh worker on each other (docs/multinode.md)"
    if told["gpus"] < plan.gpus or len(able) < plan.nodes:
        wanted = f"{plan.gpus} on {plan.nodes} × {plan.gpus_per_node}"
        text = f"Ray has {told['gpus']} GPUs ({shown}); this run wants {wanted} and would wait for ever"
        out.append(fail("ray gpus", text, f"{start}, or another --profile"))
    elif told["gpus_free"] < plan.gpus:
        text = (
            f"{told['gpus_free']} of {told['gpus']} are free and this run wants {plan.gpus}: it will wait "
            "without a word"
        )
        out.append(warn("ray gpus", text, f"ray job stop {' '.join(running)}" if running else "end what holds them"))
    else:
        out.append(ok("ray gpus", f"{told['gpus']} ({shown}), {told['gpus_free']} free; {plan.gpus} wanted"))
    if told["cpus"] < plan.gpus + OWN_CPUS:
        text = f"Ray has {told['cpus']}, and slime's actors ask for {plan.gpus + OWN_CPUS}"
        out.append(fail("ray cpus", text, "ray start --num-cpus N, or more cores for this container"))
    if running and told["gpus_free"] >= plan.gpus:
        out.append(
            warn(
                "ray jobs",
                f"{', '.join(running)} not ended yet",
                "two runs share the GPUs of this cluster: stop one, or know why not",
            )
        )
    return out


def inside(told: dict[str, Any], ask: Ask) -> list[Finding]:
    """What each node's own process saw; one finding for each thing that is wrong, by the node's address."""
    out: list[Finding] = []
    for node in told["nodes"]:
        what = f"node {node['ip']}"
        if "error" in node:
            out.append(
                fail(
                    what,
                    f"a task there ended with {node['error']}",
                    "look at that node's raylet; is Python the same there?",
                )
            )
            continue
        if node["missing"]:
            fix = (
                "SLIME_DIR, MEGATRON_DIR and this package under the same paths on every node, and bash "
                "launch/setup.sh on each"
            )
            out.append(fail(what, f"{', '.join(node['missing'])} cannot be imported in the job", fix))
        if node["broken"]:
            out.append(
                fail(
                    what, node["broken"], "bash launch/setup.sh on that node; TAU2_DATA_DIR must be a path that it has"
                )
            )
        if node["differs"]:
            fix = "it is set otherwise there: look at the environment of that node's `ray start`"
            out.append(fail(what, f"{', '.join(node['differs'])} did not arrive as this shell has it", fix))
        for folder, why in node["folders"].items():
            if why:
                out.append(fail(what, f"{folder} {why}", "training reads it there: copy it, or mount it on every node"))
        if not node["token"]:
            text = (
                f"{ask.output} is another folder there than here: checkpoints would be scattered, and a resume "
                "start anew"
            )
            out.append(fail(what, text, "OUTPUT_DIR on a file system that all nodes mount"))
        for key in node["absent_keys"]:
            out.append(fail(what, f"{key} is not in the job's environment", f"export {key} before `ray start` there"))
        if node["user"]:
            fix = "USER_HOST=0.0.0.0 bash launch/serve_user_sim.sh, and USER_URL by the address that nodes have for it"
            out.append(
                fail(what, f"the user simulator {ask.user} {node['user']} from there, where episodes may run", fix)
            )
        for line in node.get("network", ()):
            fix = (
                "IFACE or NODE_IP of that node's launch/node.sh; TCP open between the nodes (docs/multinode.md, Ports)"
            )
            out.append(fail(what, line, fix))
    if not out:
        parts = f"modules, {len(ask.runtime_env.get('env_vars', {}))} variables, {len(ask.folders)} folders"
        parts += (", the user simulator" if ask.user else "") + (
            ", the way to each other" if ask.plan.nodes > 1 else ""
        )
        out.append(ok(WHAT, f"seen from inside, on each of {len(told['nodes'])} nodes: {parts}"))
    return out
