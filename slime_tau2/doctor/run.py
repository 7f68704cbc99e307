"""Which checks a question asks for, and their findings."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2.config import ENVIRONMENT, NO_KEY, VARIABLE, Tau2Config, from_environment
from slime_tau2.doctor import findings, installation, job, models, plan, router, servers
from slime_tau2.doctor.findings import Finding, Status
from slime_tau2.doctor.plan import Plan
from slime_tau2.episode import credentials
from slime_tau2.errors import ConfigError


@dataclass(frozen=True)
class Question:
    """The command line of `doctor`. What is not named is not asked about; without a name, only this machine is looked
    at.

    `rotary_base` is that of the first model. With a `plan`, disk and host memory are computed from it and the first
    model, and a job is sent to Ray that looks around with `runtime_env`; `shared` folders must be there for it on every
    node, `job_keys` in its environment.
    """

    gpus: int = 0
    train: bool = False
    serve: bool = False
    models: tuple[Path, ...] = ()
    rotary_base: int | None = None
    policy: str | None = None
    user: str | None = None
    user_model: str = ""
    user_key: str | None = None
    ray: str | None = None
    ports: tuple[int, ...] = ()
    output: Path = Path()
    disk_gib: float = 1.0
    plan: Plan | None = None
    runtime_env: str = "{}"
    shared: tuple[Path, ...] = ()
    job_keys: tuple[str, ...] = ()
    router_policy: str | None = None


def examine(question: Question) -> list[Finding]:
    q = question
    if any(not VARIABLE.fullmatch(name) for name in (q.user_key, *q.job_keys) if name is not None):
        raise ConfigError(f"--user-key and --job-key {NO_KEY}")
    for number in q.ports:
        if not 1 <= number <= 65535:
            raise ConfigError(f"--port {number}: a port is a number from 1 to 65535")
    container = "run this inside slime's container"
    out = [installation.python(), *installation.torch(q.gpus)]
    out += [
        installation.package("slime", "slime", q.train, f"{container}, or pip install --no-deps -e SLIME_DIR"),
        installation.package(
            "megatron-core", "megatron.core", q.train, f"{container}, or put Megatron-LM on PYTHONPATH"
        ),
        installation.package("sglang", "sglang", q.serve, container),
        *installation.tau2(),
        *_room(q),
        *(installation.port(n) for n in q.ports),
        installation.key("WANDB_API_KEY", False),
        _users_key(q),
    ]
    for n, model in enumerate(dict.fromkeys(q.models)):
        checked = models.files(model)
        out.append(checked)
        if checked.status is Status.OK:
            out.append(models.template(model))
            if q.rotary_base is not None and n == 0:
                out.append(models.rotary_base(model, q.rotary_base))
    if q.router_policy is not None:
        out.append(router.check(q.router_policy))
    asked: list[Awaitable[Any]] = []
    said = {k: v for k, v in from_environment().items() if k in ("hosts", "plain_http")}
    access = Tau2Config.from_mapping(said, ENVIRONMENT).access
    if q.policy is not None:
        asked.append(servers.policy(q.policy, access, q.models[0] if q.models else None))
    if q.user is not None:
        asked.append(servers.user(q.user, q.user_model, q.user_key, access))
    if q.ray is not None:
        asked.append(servers.ray(q.ray))
    out += asyncio.run(servers.gathered(*asked))
    if q.ray is not None and q.plan is not None and out[-1].status is Status.OK:
        out += job.check(q.ray, _ask(q, q.plan))
    return out


def _room(q: Question) -> list[Finding]:
    """Disk, and with a plan host memory: what the checkpoints and the trainers of this model take."""
    count = plan.parameters(q.models[0]) if q.plan is not None and q.models else None
    if q.plan is None or count is None:
        return [installation.disk(q.output, q.disk_gib)]
    gib, how = plan.disk_gib(q.plan, count, q.output)
    return [installation.disk(q.output, q.disk_gib + gib, how), plan.host_memory(q.plan, count)]


def _ask(q: Question, of: Plan) -> job.Ask:
    try:
        environment = json.loads(q.runtime_env)
    except ValueError as error:
        raise ConfigError(f"--runtime-env is no JSON: {error}") from error
    users = _users_variable(q)
    keys = [*q.job_keys, *([users] if users else [])]
    folders = tuple(str(p) for p in (*q.shared, *q.models))
    asked = (of, environment, folders, q.output, tuple(dict.fromkeys(keys)), q.user or "", users or "")
    return job.Ask(*asked, patience_s=float(os.environ.get("DOCTOR_WAIT_S", job.PATIENCE_S)))


def _users_variable(q: Question) -> str | None:
    """The variable of the key that the user's server may see."""
    try:
        return credentials.variable(q.user, q.user_key) if q.user is not None else None
    except ConfigError:  # the server's own check says so
        return None


def _users_key(q: Question) -> Finding:
    """Whether the key that the user's server will see is set; without a server, whether OpenAI's is."""
    variable = _users_variable(q)
    return installation.key(variable or q.user_key or credentials.OPENAI_KEY, variable is not None)


def main(question: Question, as_json: bool, quiet: bool, console: Console) -> int:
    """Print the findings; the exit code is 1 where one failed."""
    found = examine(question)
    if as_json:
        print(findings.as_json(found))
    else:
        findings.show([f for f in found if not quiet or f.status is not Status.OK], console)
    return int(findings.failed(found))
