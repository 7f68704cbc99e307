"""Runs attempts at tasks, all concurrently under a cap, and appends each record as it finishes.

A killed run resumes: attempts that have a record are not run again, except those that infrastructure ended. Sampling and
users derive from (seed, task, attempt), so a resumed run makes the attempts that the first would have made.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.worlds import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import statistics
from slime_tau2.local.looplag import LoopLag
from slime_tau2.seeds import derive_seed
from slime_tau2.types import Episode

MOST_SPOILED = 32
"""Attempts without a scored one before it must be the servers, or the configuration."""
RunOne = Callable[[World, str, int], Awaitable[Episode]]
"""(world, task id, seed) -> the finished episode."""


@dataclass
class Run:
    """What to run. `settings` go into the summary as they are; resuming under other settings is refused.

    With a `tokenizer`, records hold what was sampled, token by token with its log-prob, for the reader of the report.
    """

    world: World
    split: str
    attempts: int
    output: Path
    run_one: RunOne
    settings: dict[str, Any]
    concurrency: int = 64
    seed: int = 0
    task_ids: list[str] | None = None
    on_episode: Callable[[Episode], None] = lambda episode: None
    tokenizer: Any = None
    lags_ms: list[float] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        return self.task_ids if self.task_ids is not None else self.world.task_ids(self.split)

    @property
    def records_path(self) -> Path:
        return self.output / "attempts.jsonl"


def read_records(path: Path) -> list[dict]:
    """Records of a run so far, one an attempt (the last one wins), by task and attempt, whatever order they finished in.

    A half-written last line (kill -9) is dropped.
    """
    if not path.exists():
        return []
    by_key: dict[tuple[str, str, int], dict] = {}
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # splitlines() would also split at U+2028 within a text
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise ConfigError(f"{path}, line {number}: not JSON; delete that line or the file") from None
        by_key[record["domain"], record["task_id"], record["attempt"]] = record
    return [by_key[key] for key in sorted(by_key)]


async def run(job: Run) -> list[dict]:
    """Run what is missing; returns all records and writes `summary.json`.

    Raises:
        ConfigError: the output holds a run with other settings; or not one attempt came back scored.
    """
    job.output.mkdir(parents=True, exist_ok=True)
    identity = {
        "domain": job.world.domain, "split": job.split, "seed": job.seed, "tasks_sha256": job.world.tasks_sha256,
        "tau2": str(bench.VINTAGE.version), **job.settings,
    }  # fmt: skip
    _same_settings(job.output / "settings.json", identity)
    done = {(r["task_id"], r["attempt"]) for r in read_records(job.records_path) if r["reward"] is not None}
    todo = [(t, n) for n in range(job.attempts) for t in job.tasks if (t, n) not in done]
    _end_cleanly(job.records_path)
    limiter = asyncio.Semaphore(job.concurrency)
    ended: list[str | None] = []  # of this call's attempts, what ended them where it was the infrastructure

    def dead() -> bool:
        return len(ended) >= max(MOST_SPOILED, job.concurrency) and all(detail is not None for detail in ended)

    with job.records_path.open("a", encoding="utf-8") as sink:

        async def one(task_id: str, attempt: int) -> None:
            async with limiter:
                if dead():
                    return
                episode = await job.run_one(job.world, task_id, derive_seed(job.seed, job.world.domain, task_id, attempt))
            record = {"attempt": attempt, **episode.record(), **turn_tokens(episode, job.tokenizer)}
            sink.write(json.dumps(record, ensure_ascii=False) + "\n")
            sink.flush()
            ended.append(episode.detail if episode.reward is None else None)
            job.on_episode(episode)

        async with LoopLag() as lag:
            await asyncio.gather(*(one(*pair) for pair in todo))
    job.lags_ms = lag.lags_ms
    if dead():
        raise ConfigError(
            f"the first {len(ended)} attempts were all ended by the infrastructure, the last by: {ended[-1]}; mend it and rerun"
        )
    wanted = set(job.tasks)
    records = [r for r in read_records(job.records_path) if r["attempt"] < job.attempts and r["task_id"] in wanted]
    (job.output / "summary.json").write_text(json.dumps(summary(records, identity, job.attempts), indent=1), encoding="utf-8")
    return records


def turn_tokens(episode: Episode, tokenizer: Any) -> dict[str, list]:
    """{"turn_tokens": for each turn that sampled, its [text, log-prob] pairs}; {} without tokens or a tokenizer."""
    if tokenizer is None or episode.ledger is None:
        return {}
    ledger = episode.ledger
    ids, log_probs = ledger.tokens[ledger.prompt_length :], ledger.log_probs
    decode = lambda i: tokenizer.decode([i], skip_special_tokens=False)  # noqa: E731
    return {"turn_tokens": [[[decode(ids[n]), round(log_probs[n], 2)] for n in range(a, b)] for a, b in ledger.spans()]}


def _same_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key in {*before, *settings}:
            if before.get(key) != settings.get(key):
                raise ConfigError(
                    f"{path.parent} holds a run with {key} = {before.get(key)!r}, not {settings.get(key)!r}; use another --output"
                )
        return
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _end_cleanly(path: Path) -> None:
    """Cut a half-written last line off, so that appending starts on a line of its own."""
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])


def family(record: dict) -> str:
    """Group of a record in tables: helpdesk's task family, else the domain."""
    return record["task_id"].rsplit("_", 1)[0] if record["domain"] == "helpdesk" else record["domain"]


def tables(records: list[dict], attempts: int) -> dict[str, dict[str, statistics.Estimate]]:
    """{"overall" or family: {metric: estimate}}."""
    ks = sorted({1, *(k for k in (2, 4, 8) if k <= attempts), attempts})
    out = {}
    for name in ["overall", *sorted({family(r) for r in records})]:
        part = [r for r in records if name in ("overall", family(r))]
        out[name] = statistics.summarise(statistics.successes_by_task([(r["task_id"], r["reward"]) for r in part]), ks)
    return out


def summary(records: list[dict], identity: dict[str, Any], attempts: int) -> dict[str, Any]:
    """What `summary.json` holds."""
    scored = [r for r in records if r["reward"] is not None]
    return {
        "settings": identity, "attempts": attempts, "records": len(records), "excluded_infrastructure": len(records) - len(scored),
        "user_stopped_early": sum(bool(r.get("user_stopped_early")) for r in scored) / len(scored) if scored else None,
        "terminations": dict(Counter(r["termination"] for r in records)),
        "mean_reward": sum(r["reward"] for r in scored) / len(scored) if scored else None,
        "metrics": {k: {m: e.to_json() for m, e in v.items()} for k, v in tables(records, attempts).items()},
    }  # fmt: skip
