"""What a Ray job will find: the cluster's GPUs against the plan, and each node's environment, folders and way to the
user simulator, seen from inside.

A job is submitted as the launch scripts submit training, with the same runtime environment; it runs `probe.py` and
reports back. What holds in this shell is never taken to hold in the job. A second job waits for the first one's GPUs
and slime says nothing of it: that is reported too.
"""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slime_tau2.doctor import probe
from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.doctor.plan import Plan

WHAT = "job"
MODULES = ("slime_tau2", "slime", "megatron.training")
PATIENCE_S = 90.0
"""How long the job may take. DOCTOR_WAIT_S in the environment overrides it: on a slow file system importing torch alone
takes minutes.
"""
OWN_CPUS = 2
"""slime's RolloutManager and its lock, beside one CPU per GPU."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to ask of a job."""

    plan: Plan
    runtime_env: dict[str, Any]
    """Ray's, as training gets it."""
    folders: tuple[str, ...] = ()
    """Must be there on every node."""
    output: Path | None = None
    """Must be one folder that all nodes share."""
    keys: tuple[str, ...] = ()
    """Variables that the job's environment must hold."""
    user: str = ""
    """The user simulator's URL; "" where it is not asked for."""
    user_key: str = ""
    """The variable of the key that the server at `user` may see (`credentials.variable`); "" where it sees none."""
    modules: tuple[str, ...] = MODULES
    """Must be importable."""
    hooks: bool = True
    """Whether slime_tau2's hooks and tau2's data are looked at."""
    patience_s: float = PATIENCE_S


class Submitted(Protocol):
    """A job in Ray's list."""

    submission_id: str | None
    job_id: str | None
    status: str


class JobClient(Protocol):
    """What is used of `ray.job_submission.JobSubmissionClient`."""

    def list_jobs(self) -> Sequence[Submitted]: ...

    def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any]) -> str: ...

    def get_job_status(self, job_id: str) -> Any: ...

    def get_job_logs(self, job_id: str) -> str: ...

    def get_job_info(self, job_id: str) -> Any: ...

    def stop_job(self, job_id: str) -> Any: ...


def check(address: str, ask: Ask) -> list[Finding]:
    """Submit the probe and read its report."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        fix = "run this inside slime's container: the job is submitted with Ray, too"
        return [fail(WHAT, "ray is not installed here, so that nobody can look into the job", fix)]
    try:
        return examine(JobSubmissionClient(address), ask)
    except Exception as error:  # a job server that answers /api/version only, or went away
        why = f"{address}: {type(error).__name__}: {str(error)[:300]}"
        return [fail(WHAT, why, "look at Ray's dashboard, or start Ray anew")]


def examine(client: JobClient, ask: Ask) -> list[Finding]:
    """The findings, through a job client (Ray's, or a stand-in for it)."""
    running = [j.submission_id or j.job_id or "" for j in client.list_jobs() if j.status in ("RUNNING", "PENDING")]
    token = None if ask.output is None else ask.output / f".doctor-{uuid.uuid4().hex[:12]}"
    try:
        if token is not None:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        report = _run(client, ask, token)
    finally:
        if token is not None:
            token.unlink(missing_ok=True)
    if isinstance(report, Finding):
        return [report]
    return [*cluster(report, ask.plan, running), *inside(report, ask)]


def _run(client: JobClient, ask: Ask, token: Path | None) -> probe.Report | Finding:
    """Submit the probe, wait for its end and read its report; a Finding where there is none."""
    question: probe.Question = {
        "modules": list(ask.modules),
        "hooks": ask.hooks,
        "variables": ask.runtime_env.get("env_vars", {}),
        "folders": list(ask.folders),
        "token": str(token or ""),
        "keys": list(ask.keys),
        "user": ask.user,
        "user_key": ask.user_key,
        "patience_s": ask.patience_s / 2,
        "several": ask.plan.nodes > 1,
    }
    entry = f"python3 -P {shlex.quote(str(Path(probe.__file__)))} {shlex.quote(json.dumps(question))}"
    job = client.submit_job(entrypoint=entry, runtime_env=ask.runtime_env)
    deadline = time.monotonic() + ask.patience_s
    while (status := _status(client, job)) not in ("SUCCEEDED", "FAILED", "STOPPED"):
        if time.monotonic() > deadline:
            client.stop_job(job)
            fix = f"ray job logs {job}; DOCTOR_WAIT_S=600 where files are slow"
            return fail(WHAT, f"a job that only looks around did not end within {ask.patience_s:.0f} s", fix)
        time.sleep(0.2)
    logs = client.get_job_logs(job)
    marked = next((line for line in reversed(logs.splitlines()) if line.startswith(probe.MARK)), None)
    if marked is not None:
        report: probe.Report = json.loads(marked.removeprefix(probe.MARK))
        return report
    if status != "SUCCEEDED":
        logs = f"{logs}\n{getattr(client.get_job_info(job), 'message', None) or ''}"
    last = next((line.strip() for line in reversed(logs.splitlines()) if line.strip()), "nothing")
    text = f"a job that only looks around ended as {status}, and said last: {last[:300]}"
    return fail(WHAT, text, f"ray job logs {job}")


def _status(client: JobClient, job: str) -> str:
    """Ray's enum, by its value."""
    return str(getattr(client.get_job_status(job), "value", ""))


def cluster(report: probe.Report, plan: Plan, running: Sequence[str]) -> list[Finding]:
    """Ray's nodes, GPUs and CPUs against the plan: with too few, slime's placement group waits for ever.

    Args:
        running: ids of jobs that have not ended.
    """
    nodes, gpus, free = report["nodes"], report["gpus"], report["gpus_free"]
    shown = ", ".join(f"{n['ip']}: {n['gpus']}" for n in nodes)
    able = [n for n in nodes if n["gpus"] >= plan.gpus_per_node]
    out: list[Finding] = []
    if gpus < plan.gpus or len(able) < plan.nodes:
        start = f"ray start --head --num-gpus {plan.gpus_per_node}"
        if plan.nodes > 1:
            start = "launch/node.sh head on the first node, launch/node.sh worker on each other (docs/multinode.md)"
        wanted = f"{plan.gpus} on {plan.nodes} × {plan.gpus_per_node}"
        text = f"Ray has {gpus} GPUs ({shown}); this run wants {wanted} and would wait for ever"
        out.append(fail("ray gpus", text, f"{start}, or another --profile"))
    elif free < plan.gpus:
        text = f"{free} of {gpus} are free and this run wants {plan.gpus}: it will wait without a word"
        out.append(warn("ray gpus", text, f"ray job stop {' '.join(running)}" if running else "end what holds them"))
    else:
        out.append(ok("ray gpus", f"{gpus} ({shown}), {free} free; {plan.gpus} wanted"))
    actors = plan.gpus + OWN_CPUS
    if report["cpus"] < actors + plan.workers:
        text = f"Ray has {report['cpus']}, and slime's actors ask for {actors}"
        fix = "ray start --num-cpus N, or more cores for this container"
        if plan.workers:
            text += f", tau2_workers for {plan.workers} more"
            fix += ", or fewer of them (--set WORKERS=N)"
        out.append(fail("ray cpus", text, fix))
    if running and free >= plan.gpus:
        fix = "two runs share the GPUs of this cluster: stop one, or know why not"
        out.append(warn("ray jobs", f"{', '.join(running)} not ended yet", fix))
    return out


def inside(report: probe.Report, ask: Ask) -> list[Finding]:
    """What each node's own process saw; one finding for each thing that is wrong, by the node's address."""
    nodes = report["nodes"]
    out = [fail(f"node {node['ip']}", text, fix) for node in nodes for text, fix in _wrong(node, ask)]
    if out:
        return out
    parts = ["modules", f"{len(ask.runtime_env.get('env_vars', {}))} variables", f"{len(ask.folders)} folders"]
    if ask.user:
        parts.append("the user simulator")
    if ask.plan.nodes > 1:
        parts.append("the way to each other")
    return [ok(WHAT, f"seen from inside, on each of {len(nodes)} nodes: {', '.join(parts)}")]


def _wrong(node: probe.Node, ask: Ask) -> Iterator[tuple[str, str]]:
    """(what is wrong with one node, how to mend it)."""
    if "error" in node:
        yield f"a task there ended with {node['error']}", "look at that node's raylet; is Python the same there?"
        return
    if node["missing"]:
        yield (
            f"{', '.join(node['missing'])} cannot be imported in the job",
            "SLIME_DIR, MEGATRON_DIR and this package under the same paths on every node, and bash launch/setup.sh on "
            "each",
        )
    if node["broken"]:
        yield node["broken"], "bash launch/setup.sh on that node; TAU2_DATA_DIR must be a path that it has"
    if node["differs"]:
        yield (
            f"{', '.join(node['differs'])} did not arrive as this shell has it",
            "it is set otherwise there: look at the environment of that node's `ray start`",
        )
    for folder, why in node["folders"].items():
        if why:
            yield f"{folder} {why}", "training reads it there: copy it, or mount it on every node"
    if not node["token"]:
        yield (
            f"{ask.output} is another folder there than here: checkpoints would be scattered, and a resume start anew",
            "OUTPUT_DIR on a file system that all nodes mount",
        )
    for key in node["absent_keys"]:
        yield f"{key} is not in the job's environment", f"export {key} before `ray start` there"
    if node["user"]:
        yield (
            f"the user simulator {ask.user} {node['user']} from there, where episodes may run",
            "USER_HOST=0.0.0.0 bash launch/serve_user_sim.sh, and USER_URL by the address that nodes have for it",
        )
    for line in node.get("network", ()):
        yield (
            line,
            "IFACE or NODE_IP of that node's launch/node.sh; TCP open between the nodes (docs/multinode.md, Ports)",
        )
