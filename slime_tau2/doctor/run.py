"""Which checks a question asks for, and their findings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2.doctor import findings, installation, models, servers
from slime_tau2.doctor.findings import Finding, Status


@dataclass(frozen=True)
class Question:
    """The command line of `doctor`. What is not named is not asked about; without a name, only this machine is looked at.

    `rotary_base` is that of the first model.
    """

    gpus: int = 0
    train: bool = False
    serve: bool = False
    models: tuple[Path, ...] = ()
    rotary_base: int | None = None
    policy: str | None = None
    user: str | None = None
    user_model: str = ""
    user_key: str = "OPENAI_API_KEY"
    ray: str | None = None
    ports: tuple[int, ...] = ()
    output: Path = Path()
    disk_gib: float = 1.0


def examine(question: Question) -> list[Finding]:
    q = question
    container = "run this inside slime's container"
    out = [installation.python(), *installation.torch(q.gpus)]
    out += [
        installation.package("slime", "slime", q.train, f"{container}, or pip install --no-deps -e SLIME_DIR"),
        installation.package("megatron-core", "megatron.core", q.train, f"{container}, or put Megatron-LM on PYTHONPATH"),
        installation.package("sglang", "sglang", q.serve, container),
        *installation.tau2(),
        installation.disk(q.output, q.disk_gib),
        *(installation.port(n) for n in q.ports),
        installation.key("WANDB_API_KEY", False),
        installation.key(q.user_key, q.user is not None and "openai.com" in q.user),
    ]
    for n, model in enumerate(dict.fromkeys(q.models)):
        checked = models.files(model)
        out.append(checked)
        if checked.status is Status.OK:
            out.append(models.template(model))
            if q.rotary_base is not None and n == 0:
                out.append(models.rotary_base(model, q.rotary_base))
    asked: list[Awaitable[Any]] = []
    if q.policy is not None:
        asked.append(servers.policy(q.policy))
    if q.user is not None:
        asked.append(servers.user(q.user, q.user_model, q.user_key))
    if q.ray is not None:
        asked.append(servers.ray(q.ray))
    return out + asyncio.run(servers.gathered(*asked))


def main(question: Question, as_json: bool, quiet: bool, console: Console) -> int:
    """Print the findings; the exit code is 1 where one failed."""
    found = examine(question)
    if as_json:
        print(findings.as_json(found))
    else:
        findings.show([f for f in found if not quiet or f.status is not Status.OK], console)
    return int(findings.failed(found))
