"""`slime-tau2 eval`: any policy, any domains and split, through the one runner."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import baselines, costs, keys, players, policies, runner, runs, scores, vigil
from slime_tau2.evaluation.dry_run import DryRun
from slime_tau2.evaluation.plan import PolicyServer, RunPlan, TaskSet
from slime_tau2.evaluation.players import PolicyPlayer, Workers
from slime_tau2.evaluation.policies import EvaluatedPolicy
from slime_tau2.evaluation.request import EvalRequest, ResolvedRequest
from slime_tau2.evaluation.runner import Finished
from slime_tau2.evaluation.tables import metrics_table
from slime_tau2.types import is_success


def main(request: EvalRequest, console: Console, dry_run: DryRun | None = None) -> Finished | None:
    """Run (or resume) an evaluation and print its table; None after a dry run, which prints what it would do and cost.

    Raises:
        ConfigError: a request, a server or a directory that cannot be used; found before the first attempt.
        ServerUnavailable: a server is away or fails before the first attempt.
        EvaluationStopped: the servers failed too often in a row. Attempts that they ended here and there are counted in
            the result's coverage instead.
    """
    resolved = request.resolved()
    config = resolved.config()
    console.print(f"{bench.VINTAGE}", soft_wrap=True, highlight=False)
    loaded = {d: worlds.load(d, retail_basis=config.retail_basis, retrieval=config.retrieval) for d in request.domains}
    sets = tuple(_task_set(world, resolved, console) for world in loaded.values())
    if dry_run is not None:
        for line in dry_run.lines(resolved, sets, config, loaded):
            console.print(line, soft_wrap=True, highlight=False)
        return None
    evaluation = _Evaluation(resolved=resolved, config=config, worlds=loaded, sets=sets, console=console)
    played = evaluation.play()
    evaluation.show(played)
    return played.finished


@dataclass(frozen=True, kw_only=True)
class _Played:
    """A run to its end, and what was noticed on the way."""

    plan: RunPlan
    finished: Finished
    audited: int
    mismatches: int
    faults: Counter[str]
    """Failed requests by client and kind, those included that a retry mended."""
    cross_checked: int | None
    """Episodes that tau2's own evaluator graded again; None where nobody asked for it."""


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    resolved: ResolvedRequest
    config: Tau2Config
    worlds: Mapping[str, World]
    sets: tuple[TaskSet, ...]
    console: Console

    @property
    def request(self) -> EvalRequest:
        return self.resolved.request

    def play(self) -> _Played:
        """Check keys, servers and the policy's identity, then play what is missing."""
        tasks = {s.domain: [self.worlds[s.domain].task(t) for t in s.tasks] for s in self.sets}
        keys.check(self.config, tasks)
        judged = any(bench.judge_request(task, []) is not None for part in tasks.values() for task in part)
        with ExitStack() as stack:
            policy = policies.policy(self.resolved, self.config, stack)
            servers = vigil.clients(policy.harness, judged)
            plan = self._plan(policy, servers)
            player = PolicyPlayer(policy, judged=judged)
            count = self.request.workers
            workers = Workers(self.config, self.sets, policy.remake, judged=judged, count=count) if count else None
            if workers is not None:
                self.console.print(workers.share, soft_wrap=True, highlight=False)
            progress = stack.enter_context(_progress(self.console))
            total = plan.attempts * len(plan.keys)
            bar = progress.add_task(f"{self.request.policy} on {plan.name}", total=total)

            def guard(stop: runner.Stop) -> AbstractAsyncContextManager[None]:
                return vigil.watching(servers, stop, silences=None if workers is None else workers.silences)

            run = runner.Run(
                plan=plan,
                worlds=self.worlds,
                output=self.request.output,
                run_one=player.run_one if workers is None else workers.run_one,
                concurrency=self.request.concurrency,
                on_episode=lambda episode: progress.advance(bar),
                guard=guard,
            )
            finished = asyncio.run(runner.run_and_close(run, player, *filter(None, [workers])))
            progress.update(bar, completed=total)
        for world in self.worlds.values():
            world.check()
        counts = player.take_counts() + (Counter() if workers is None else workers.take_counts())
        faults = {k.removeprefix(players.FAULTS): n for k, n in counts.items() if k.startswith(players.FAULTS)}
        return _Played(
            plan=plan,
            finished=finished,
            audited=counts[players.AUDITED],
            mismatches=counts[players.MISMATCHES],
            faults=Counter(faults),
            cross_checked=counts[players.CHECKED] if self.config.official_check else None,
        )

    def _plan(self, policy: EvaluatedPolicy, servers: Mapping[str, vigil.Client]) -> RunPlan:
        """The plan, with what the policy's server says about itself. A finished run asks no server again."""
        settings = policy.settings.copy()
        before = runs.finished(self.request.output, self.sets, self.resolved.attempts)
        if before is None:
            server = asyncio.run(_identified(policy, servers))
        else:
            server = before[0].settings.get("policy_server")
        if server is not None:
            settings["policy_server"] = server
        return RunPlan(sets=self.sets, attempts=self.resolved.attempts, seed=self.request.seed, settings=settings)

    def show(self, played: _Played) -> None:
        """Print the table, the baselines beside it, and what the run took."""
        plan, coverage, records = played.plan, played.finished.coverage, played.finished.records
        title = f"{self.request.policy} on {plan.name}" + ("" if coverage.whole else f", PARTIAL: {coverage}")
        table = scores.scores(runs.successes(plan.keys, records), scores.ks(plan.attempts))
        self.console.print(metrics_table(title, table))
        for line in baselines.lines(baselines.rates(self.worlds, plan, self.request.output / baselines.FILE)):
            self.console.print(line, soft_wrap=True)
        won = sum(is_success(r["reward"]) for r in records)
        self.console.print(
            f"{coverage}; {won} earned reward 1.0; results in {self.request.output}",
            soft_wrap=True,
        )
        for line in costs.lines(costs.used(records), plan.settings, None):
            self.console.print(line, soft_wrap=True, highlight=False)
        if played.audited:
            self.console.print(f"token mismatches: {played.mismatches} in {played.audited} episodes")
        if played.faults:
            kinds = ", ".join(f"{kind} {n}" for kind, n in played.faults.most_common())
            self.console.print(f"failed requests, retried: {kinds}", soft_wrap=True)
        if played.cross_checked is not None:
            self.console.print(f"tau2's own evaluator graded {played.cross_checked} episodes again and agreed")


async def _identified(policy: EvaluatedPolicy, servers: Mapping[str, vigil.Client]) -> PolicyServer | None:
    """Before anything is written: see that every server is there, and ask the policy's who it is."""
    try:
        await vigil.before(servers)
        return await policy.identify()
    finally:
        await policy.harness.close()


def _task_set(world: World, resolved: ResolvedRequest, console: Console) -> TaskSet:
    split, request = resolved.split_among(world.splits), resolved.request
    if split != resolved.asked_split:
        console.print(f"{world.name} has no split {resolved.asked_split}: this is {split}", soft_wrap=True)
    if request.tasks is not None and len(request.domains) > 1:
        raise ConfigError(
            f"--task names tasks of one domain, and --domain names {len(request.domains)}; evaluate them one by one"
        )
    return TaskSet.of(world, split, request.tasks)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
