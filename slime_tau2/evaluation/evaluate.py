"""`slime-tau2 eval`: any policy, any domain and split, through the one runner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slime_tau2 import bench
from slime_tau2.config import Tau2Config, from_environment, parse_assignments
from slime_tau2.episode import credentials, scripts, worlds
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import audit, baselines, estimate, failures, page, policies, runner
from slime_tau2.evaluation.presets import EvalRequest
from slime_tau2.evaluation.tables import metrics_table
from slime_tau2.types import Episode, is_success


def main(request: EvalRequest, console: Console, dry_run: bool = False) -> None:
    """Run (or resume) an evaluation and print its table; a dry run prints what it would do and cost."""
    plan = request.resolved()
    request = plan.request
    scripted = request.policy in scripts.SCRIPTS
    user = request.user or ("gold" if scripted else "scripted" if request.domain == "helpdesk" else "llm")
    options = parse_assignments(list(request.options), Tau2Config.model_fields, "--set")
    config = Tau2Config.from_mapping(
        {"seeded_sampling": True, "user": user, "retail_basis": "judge", **from_environment(), **options}, "--set"
    )
    console.print(f"{bench.VINTAGE}", soft_wrap=True, highlight=False)
    world = worlds.load(request.domain, config.retail_basis, config.retrieval)
    missing, plan = plan.split, plan.on(world.splits)
    if plan.split != missing:
        console.print(f"{request.domain} has no split {missing}: this is {plan.split}", soft_wrap=True)
    task_ids = request.tasks or world.task_ids(plan.split)
    for task_id in task_ids:
        world.task(task_id)
    title = f"{request.policy} on {request.domain}/{plan.split}"
    if dry_run:
        for line in estimate.lines(plan, config, world, task_ids):
            console.print(line, soft_wrap=True, highlight=False)
        return
    audited = {"episodes": 0, "mismatches": 0}
    with ExitStack() as stack:
        _check_judge(config, [world.task(t) for t in task_ids], request.domain)
        run_one, settings, box = policies.policy(plan, config, stack)
        progress = stack.enter_context(_progress(console))
        count = plan.attempts * len(task_ids)
        bar = progress.add_task(title, total=count)

        def on_episode(episode: Episode) -> None:
            progress.advance(bar)
            if episode.ledger is not None:
                audited["episodes"] += 1
                prompt = box.system_prompt(world, episode.task.task_id)
                audited["mismatches"] += audit.is_mismatch(episode, box.chat(world.domain), prompt, box.protocol)

        job = runner.Run(
            world,
            plan.split,
            plan.attempts,
            request.output,
            run_one,
            settings,
            request.concurrency,
            request.seed,
            request.tasks,
            on_episode,
            box.tokenizer,
        )

        async def run() -> list[dict]:
            try:
                return await runner.run(job)
            finally:
                await box.close()

        records = asyncio.run(run())
        progress.update(bar, completed=count)
        faults = box.take_faults()
    world.environments.check()
    console.print(metrics_table(title, runner.tables(records, plan.attempts)))
    beside = baselines.rates(world, task_ids, request.output / "baselines.json")
    shares = ", ".join(f"{kind} {'needs the judge' if share is None else f'{100 * share:.1f} %'}" for kind, share in beside.items())
    console.print(f"beside it, on the same tasks: {shares}", soft_wrap=True)
    failed = [r for r in records if r["reward"] is None]
    won = sum(is_success(r["reward"]) for r in records)
    console.print(f"{won} of {len(records) - len(failed)} scored attempts earned reward 1.0; results in {request.output}", soft_wrap=True)
    if audited["episodes"]:
        console.print(f"token mismatches: {audited['mismatches']} in {audited['episodes']} episodes")
    if faults:
        console.print(f"failed requests, retried: {', '.join(f'{kind} {n}' for kind, n in faults.most_common())}", soft_wrap=True)
    if config.official_check and box.official is not None:
        console.print(f"tau2's own evaluator graded {box.official.compared} episodes again and agreed")
    if failed:
        console.print(
            f"{len(failed)} attempts were ended by the infrastructure and are excluded, e.g. {failed[0]['detail']}", soft_wrap=True
        )
        console.print("the same command tries them again")


def report(directories: Sequence[Path], output: Path | None, console: Console) -> None:
    """Print the tables of runs that are there, with their failures by what went wrong, and write the page of them all."""
    stages = []
    for directory in directories:
        records = runner.read_records(directory / "attempts.jsonl")
        if not records:
            raise ConfigError(f"{directory} holds no attempt; run `slime-tau2 eval --output {directory}` first")
        stages.append(page.Stage("/".join(directory.parts[-2:]) if len(directories) > 1 else directory.name, records))
    for directory, stage in zip(directories, stages):
        records = stage.records
        console.print(metrics_table(str(directory), runner.tables(records, stage.attempts)))
        console.print(failures.table(page.failed(records)))
    facts = [" · ".join(dict.fromkeys(f"{r['domain']}: {r['tau2']}, tasks {r['tasks_sha256'][:12]}" for s in stages for r in s.records))]
    path = output or directories[0] / "report.html"
    page.write(page.Page("slime_tau2 evaluation", stages, facts), path)
    console.print(f"every conversation: {path}", soft_wrap=True)


def _check_judge(config: Tau2Config, tasks: list[Any], domain: str) -> None:
    """Fail before the first conversation, not after it, where the judge's key is absent."""
    judged = [task.id for task in tasks if bench.judge_request(task, []) is not None]
    variable = credentials.variable(config.judge_base_url, config.judge_key_env) if judged else None
    if variable is not None and not os.environ.get(variable):
        which = f" ({', '.join(judged)})" if len(judged) <= 3 else ""
        drops = domain in ("retail", bench.KNOWLEDGE)
        without = ", or score without a judge: --set retail_basis=communicate" if drops else ", or leave them out with --task"
        raise ConfigError(
            f"{len(judged)} of these {len(tasks)} tasks{which} are judged by {config.judge_model}, and {variable} is not set; "
            f"set it, or name a server with --set judge_base_url=… judge_model=…{without}"
        )


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
