"""`slime-tau2 eval`: any policy, any domains and split, through the one runner."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slime_tau2 import bench
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.harness import Harness
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import (
    audit,
    baselines,
    costs,
    estimate,
    keys,
    policies,
    presets,
    runner,
    runs,
    scores,
    vigil,
)
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.evaluation.presets import EvalRequest
from slime_tau2.evaluation.runner import Finished
from slime_tau2.evaluation.tables import metrics_table
from slime_tau2.options import parse_assignments
from slime_tau2.types import Episode, is_success


def main(request: EvalRequest, console: Console, dry_run: estimate.DryRun | None = None) -> Finished | None:
    """Run (or resume) an evaluation and print its table; None after a dry run, which prints what it would do and cost.

    Raises:
        EvaluationStopped: the servers failed too often in a row. Attempts that were ended here and there are in the
            result's coverage.
    """
    asked = request.resolved()
    request, domains = asked.request, request.domains
    options = parse_assignments(list(request.options), Tau2Config.model_fields, "--set")
    config = Tau2Config.resolve(
        ("the defaults of eval", {**presets.OPTIONS, "user": default_user(request.policy, domains)}),
        (ENVIRONMENT, from_environment()),
        ("--user", {} if request.user is None else {"user": request.user}),
        ("--set", options),
    )
    if config.user == "scripted" and set(domains) != {"helpdesk"}:
        raise ConfigError(f"--user scripted exists for helpdesk only, not {', '.join(domains)}; use llm, gold or plain")
    console.print(f"{bench.VINTAGE}", soft_wrap=True, highlight=False)
    found = {d: worlds.load(d, config.retail_basis, config.retrieval) for d in domains}
    sets = tuple(_task_set(found[d], asked.on(found[d].splits).split, asked.split, request, console) for d in domains)
    if dry_run is not None:
        for line in dry_run.lines(asked, sets, config, found):
            console.print(line, soft_wrap=True, highlight=False)
        return None
    audited = {"episodes": 0, "mismatches": 0}
    with ExitStack() as stack:
        tasks = {s.domain: [found[s.domain].task(t) for t in s.tasks] for s in sets}
        keys.check(config, tasks)
        run_one, settings, box, identify = policies.policy(asked, config, stack)
        servers = vigil.clients(
            box, any(bench.judge_request(task, []) is not None for part in tasks.values() for task in part)
        )
        before = runs.finished(request.output, sets, asked.attempts)
        if before is None:
            settings |= asyncio.run(_identified(box, servers, identify))
        elif "policy_server" in before[0].settings:  # a finished run asks no server again
            settings["policy_server"] = before[0].settings["policy_server"]
        todo = RunPlan(sets=sets, attempts=asked.attempts, seed=request.seed, settings=settings)
        progress = stack.enter_context(_progress(console))
        count = todo.attempts * len(todo.keys)
        bar = progress.add_task(f"{request.policy} on {todo.name}", total=count)

        def on_episode(episode: Episode) -> None:
            progress.advance(bar)
            if episode.ledger is not None:
                audited["episodes"] += 1
                world = found[episode.task.domain]
                prompt = box.system_prompt(world, episode.task.task_id)
                audited["mismatches"] += audit.is_mismatch(episode, box.chat(world.domain), prompt, box.protocol)

        def guard(stop: runner.Stop) -> AbstractAsyncContextManager[None]:
            return vigil.watching(servers, stop)

        job = runner.Run(todo, found, request.output, run_one, request.concurrency, on_episode, box.tokenizer, guard)

        async def run() -> Finished:
            try:
                return await runner.run(job)
            finally:
                await box.close()

        done = asyncio.run(run())
        progress.update(bar, completed=count)
        faults = box.take_faults()
    for world in found.values():
        world.environments.check()
    covered = done.coverage
    title = f"{request.policy} on {todo.name}" + ("" if covered.whole else f", PARTIAL: {covered}")
    console.print(
        metrics_table(title, scores.scores(runs.successes(todo.keys, done.records), scores.ks(todo.attempts)))
    )
    for line in baselines.lines(baselines.rates(found, todo, request.output / baselines.FILE)):
        console.print(line, soft_wrap=True)
    won = sum(is_success(r["reward"]) for r in done.records)
    console.print(f"{covered}; {won} earned reward 1.0; results in {request.output}", soft_wrap=True)
    for line in costs.lines(costs.used(done.records), settings, None):
        console.print(line, soft_wrap=True, highlight=False)
    if audited["episodes"]:
        console.print(f"token mismatches: {audited['mismatches']} in {audited['episodes']} episodes")
    if faults:
        console.print(
            f"failed requests, retried: {', '.join(f'{kind} {n}' for kind, n in faults.most_common())}", soft_wrap=True
        )
    if config.official_check and box.official is not None:
        console.print(f"tau2's own evaluator graded {box.official.compared} episodes again and agreed")
    return done


async def _identified(box: Harness, servers: Mapping[str, vigil.Client], identify: policies.Identify) -> dict[str, Any]:
    """Before anything is written: whether every server is there, and who the policy's is."""
    try:
        await vigil.before(servers)
        return await identify()
    finally:
        await box.close()


def default_user(policy: str, domains: list[str]) -> str:
    """The user that suits a policy: a script's is played too, helpdesk has one of its own, tau2's is a model."""
    if policy in scripts.SCRIPTS:
        return "gold"
    return "scripted" if set(domains) == {"helpdesk"} else "llm"


def _task_set(world: worlds.World, split: str, asked: str, request: EvalRequest, console: Console) -> TaskSet:
    if split != asked:
        console.print(f"{world.domain} has no split {asked}: this is {split}", soft_wrap=True)
    chosen = request.tasks
    if chosen is not None and len(request.domains) > 1:
        raise ConfigError(
            f"--task names tasks of one domain, and --domain names {len(request.domains)}; evaluate them one by one"
        )
    return TaskSet.of(world, split, chosen)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
