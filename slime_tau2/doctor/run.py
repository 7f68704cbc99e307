"""Which checks a question asks for, and their findings."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slime_tau2.config import ENVIRONMENT, NO_KEY, VARIABLE, Tau2Config, from_environment
from slime_tau2.doctor import findings, installation, job, models, plan, router, servers
from slime_tau2.doctor.findings import Finding, Status
from slime_tau2.doctor.plan import Plan
from slime_tau2.episode import credentials
from slime_tau2.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Question:
    """The command line of `doctor`. This machine is always looked at; models and servers only where they are named."""

    gpus: int = 0
    """GPUs that the run needs on this node."""
    train: bool = False
    """Whether slime and Megatron are needed."""
    serve: bool = False
    """Whether SGLang is needed."""
    models: tuple[Path, ...] = ()
    """Hugging Face directories."""
    rotary_base: int | None = None
    """Megatron's, to be compared with the first model's."""
    policy: str | None = None
    """URL of the policy's server."""
    user: str | None = None
    """URL of the user simulator's server, and the model and the key's variable to use there."""
    user_model: str = ""
    user_key: str | None = None
    ray: str | None = None
    """Address of Ray's job server."""
    ports: tuple[int, ...] = ()
    """Ports that must be free."""
    output: Path = Path()
    """Where the run will write."""
    disk_gib: float = 1.0
    """How much it will write there, beside the checkpoints of a `plan`."""
    plan: Plan | None = None
    """What the run takes. With it, disk and host memory are computed for the first model, and Ray gets a job that looks
    around.
    """
    runtime_env: str = "{}"
    """Runtime environment of that job, as JSON."""
    shared: tuple[Path, ...] = ()
    """Folders that the job must find on every node."""
    job_keys: tuple[str, ...] = ()
    """Variables that its environment must hold."""
    router_policy: str | None = None
    """A policy that the installed router must know."""


def examine(question: Question) -> list[Finding]:
    """The findings of every check that the question asks for.

    Raises:
        ConfigError: the question itself is wrong: a port that is none, a key in place of its variable's name, a runtime
            environment that is no JSON.
    """
    q = question
    if any(not VARIABLE.fullmatch(name) for name in (q.user_key, *q.job_keys) if name is not None):
        raise ConfigError(f"--user-key and --job-key {NO_KEY}")
    for number in q.ports:
        if not 1 <= number <= 65535:
            raise ConfigError(f"--port {number}: a port is a number from 1 to 65535")
    container = "run this inside slime's container"
    slime_fix = f"{container}, or pip install --no-deps -e SLIME_DIR"
    megatron_fix = f"{container}, or put Megatron-LM on PYTHONPATH"
    out = [
        installation.python(),
        *installation.torch_and_gpus(q.gpus),
        installation.package("slime", "slime", needed=q.train, fix=slime_fix),
        installation.package("megatron-core", "megatron.core", needed=q.train, fix=megatron_fix),
        installation.package("sglang", "sglang", needed=q.serve, fix=container),
        *installation.tau2(),
        *_room(q),
        *(installation.port(n) for n in q.ports),
        installation.key("WANDB_API_KEY", needed=False),
        _users_key(q),
    ]
    for n, model in enumerate(dict.fromkeys(q.models)):
        out += _model(model, q.rotary_base if n == 0 else None)
    if q.router_policy is not None:
        out.append(router.check(q.router_policy))
    out += asyncio.run(_servers(q))
    ray_answers = q.ray is not None and out[-1].status is Status.OK  # it is asked last
    if q.ray is not None and q.plan is not None and ray_answers:
        out += job.check(q.ray, _ask(q, q.plan))
    return out


def _model(directory: Path, rotary_base: int | None) -> list[Finding]:
    """A model's files; where they are whole, what is in them."""
    whole = models.files(directory)
    if whole.status is not Status.OK:
        return [whole]
    out = [whole, models.template(directory)]
    if rotary_base is not None:
        out.append(models.rotary_base(directory, rotary_base))
    return out


async def _servers(q: Question) -> list[Finding]:
    """Policy, user and Ray, in this order, as far as they are named."""
    given = {k: v for k, v in from_environment().items() if k in ("hosts", "plain_http")}
    access = Tau2Config.from_mapping(given, ENVIRONMENT).access
    out: list[Finding] = []
    if q.policy is not None:
        out += await servers.policy(q.policy, access, q.models[0] if q.models else None)
    if q.user is not None:
        out += await servers.user(q.user, q.user_model, q.user_key, access)
    if q.ray is not None:
        out.append(await servers.ray(q.ray))
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
    users_key = _users_variable(q)
    keys = [*q.job_keys, users_key] if users_key else q.job_keys
    return job.Ask(
        plan=of,
        runtime_env=environment,
        folders=tuple(str(p) for p in (*q.shared, *q.models)),
        output=q.output,
        keys=tuple(dict.fromkeys(keys)),
        user=q.user or "",
        user_key=users_key or "",
        patience_s=float(os.environ.get("DOCTOR_WAIT_S", job.PATIENCE_S)),
    )


def _users_variable(q: Question) -> str | None:
    """The variable of the key that the user's server may see."""
    try:
        return credentials.variable(q.user, q.user_key) if q.user is not None else None
    except ConfigError:  # the server's own check says so
        return None


def _users_key(q: Question) -> Finding:
    """Whether the key that the user's server will see is set; without a server, whether OpenAI's is."""
    variable = _users_variable(q)
    return installation.key(variable or q.user_key or credentials.OPENAI_KEY, needed=variable is not None)


def main(question: Question, console: Console, *, as_json: bool, quiet: bool) -> int:
    """Print the findings (`quiet`: only those that are not ok); the exit code is 1 where one failed."""
    found = examine(question)
    if as_json:
        print(findings.as_json(found))
    else:
        findings.show([f for f in found if not quiet or f.status is not Status.OK], console)
    return int(findings.failed(found))
