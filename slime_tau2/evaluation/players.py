"""Who plays the attempts of an evaluation: this process, or `--workers` processes beside it, by the same lines."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from slime_tau2.config import Tau2Config
from slime_tau2.episode.driver import lost
from slime_tau2.episode.world import World
from slime_tau2.errors import WorkerError
from slime_tau2.evaluation import audit, vigil
from slime_tau2.evaluation.plan import TaskSet
from slime_tau2.evaluation.policies import EvaluatedPolicy, Remake
from slime_tau2.tokenizer import Tokenizer
from slime_tau2.types import Episode
from slime_tau2.workers import shares
from slime_tau2.workers.pool import DIED, Pool
from slime_tau2.workers.processes import Processes

AUDITED, MISMATCHES, CHECKED, FAULTS = "audited", "mismatches", "cross-checked", "faults/"
"""What is counted: episodes that were audited, those whose tokens differ, those that tau2's evaluator graded too; and
failed requests, by client and kind, under names that begin with `FAULTS`.
"""


class Attempt(NamedTuple):
    """One attempt, as it goes to whoever plays it."""

    domain: str
    task_id: str
    seed: int


class PolicyPlayer:
    """Plays attempts of a policy, audits their tokens and makes them readable."""

    def __init__(self, policy: EvaluatedPolicy, *, judged: bool):
        self.policy, self._judged = policy, judged
        self._counts: Counter[str] = Counter()
        self._compared = 0

    async def play(self, job: Attempt, aborted: Callable[[], bool] = lambda: False) -> Episode:
        harness = self.policy.harness
        world = harness.world(job.domain)
        episode = await self.policy.run_one(world, job.task_id, job.seed)
        if episode.segments:
            prompt = harness.system_prompt(world, job.task_id)
            mismatch = audit.is_mismatch(episode, harness.chat(world.name), prompt, harness.protocol)
            self._counts.update({AUDITED: 1, MISMATCHES: int(mismatch)})
            episode.turn_tokens = turn_tokens(episode, harness.tokenizer)
        return episode

    async def run_one(self, world: World, task_id: str, seed: int) -> Episode:
        """As `runner.RunOne`."""
        return await self.play(Attempt(world.name, task_id, seed))

    def prepare(self, task: tuple[str, str]) -> None:
        self.policy.harness.prepare(*task)

    def take_counts(self) -> Counter[str]:
        harness, (counts, self._counts) = self.policy.harness, (self._counts, Counter())
        counts.update({FAULTS + kind: count for kind, count in harness.take_faults().items()})
        if harness.config.official_check and harness.official is not None:
            counts[CHECKED] += harness.official.compared - self._compared
            self._compared = harness.official.compared
        return +counts

    def silences(self) -> dict[str, float]:
        clients = vigil.clients(self.policy.harness, self._judged)
        return {role: client.endpoint.silence() for role, client in clients.items()}

    async def close(self) -> None:
        await self.policy.harness.close()


def in_worker(
    config: Tau2Config, number: int, count: int, *, sets: Sequence[TaskSet], remake: Remake, judged: bool
) -> PolicyPlayer:
    """The player of worker `number` of `count`, made there. The databases are loaded here, so that workers that are
    forked afterwards share them.
    """
    config.open()
    for tasks in sets:
        tasks.open()
    policy = remake(shares.of_worker(config, number, count))
    for tasks in sets:
        policy.harness.world(tasks.domain)
    return PolicyPlayer(policy, judged=judged)


class Workers:
    """`count` processes that play attempts at the tasks of `sets`.

    Raises:
        ConfigError: there are fewer requests than workers.
    """

    def __init__(self, config: Tau2Config, sets: Sequence[TaskSet], remake: Remake, *, judged: bool, count: int):
        self.share = shares.line(config, count)
        make = functools.partial(in_worker, config, sets=sets, remake=remake, judged=judged)
        self._pool = Pool(count, Processes(make, count))

    async def run_one(self, world: World, task_id: str, seed: int) -> Episode:
        """As `runner.RunOne`; an attempt whose workers died has ended as infrastructure."""
        try:
            return await self._pool.play(Attempt(world.name, task_id, seed), (world.name, task_id))
        except WorkerError as error:
            return lost(world, task_id, seed, error)

    def take_counts(self) -> Counter[str]:
        counts = self._pool.take_counts()
        counts[FAULTS + DIED] = counts.pop(DIED, 0)
        return +counts

    async def silences(self) -> dict[str, float]:
        return await self._pool.silences()

    async def close(self) -> None:
        await self._pool.close()


def turn_tokens(episode: Episode, tokenizer: Tokenizer | None) -> list[list[tuple[str, float]]] | None:
    """For each turn that sampled, its (text, log-prob) pairs; None without tokens or a tokenizer."""
    if tokenizer is None or not episode.segments:
        return None
    ids = [segment.tokens[segment.prompt_length :] for segment in episode.segments]
    log_probs = [segment.log_probs for segment in episode.segments]
    masks = [segment.loss_mask for segment in episode.segments]

    def shown(segment: int, n: int) -> tuple[str, float]:
        return tokenizer.decode([ids[segment][n]], skip_special_tokens=False), round(log_probs[segment][n], 2)

    sampled = [turn for turn in episode.turns if turn.end > turn.start]
    return [[shown(turn.segment, n) for n in range(turn.start, turn.end) if masks[turn.segment][n]] for turn in sampled]
