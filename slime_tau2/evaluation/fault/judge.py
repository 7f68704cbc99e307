"""Who was at fault in failed conversations: agent, user simulator or reference, where a check can prove it.

Never a change of a score. A conversation in which nothing is proven is not told apart; neither is one whose only faults
were put right before they mattered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import failures
from slime_tau2.evaluation.fault import of_agent, of_reference, of_user_ended, of_user_left_out, of_user_said
from slime_tau2.evaluation.fault.conversation import Conversation
from slime_tau2.evaluation.fault.kinds import Finding
from slime_tau2.record import AttemptRecord
from slime_tau2.types import is_success
from slime_tau2.verification import valueflow
from slime_tau2.verification.valueflow import Known

PARTIES = ("agent", "user", "reference")
UNTOLD = "not told apart"
SEVERAL = "several"
Key = tuple[str, str, int]
"""(domain, task id, attempt)"""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is proven of one failed conversation.

    Attributes:
        examined: whether its task is here, so that it could be looked at.
        findings: what was found, faults that were put right too.
    """

    domain: str
    task_id: str
    attempt: int
    examined: bool
    findings: tuple[Finding, ...]

    @property
    def key(self) -> Key:
        """Which attempt it is."""
        return self.domain, self.task_id, self.attempt

    @property
    def standing(self) -> list[Finding]:
        """The findings that nobody put right."""
        return [finding for finding in self.findings if finding.mended is None]

    @property
    def whose(self) -> str:
        """`agent`, `user`, `reference`, `several` of them, or `not told apart`."""
        parties = {finding.party for finding in self.standing}
        return UNTOLD if not parties else SEVERAL if len(parties) > 1 else parties.pop()


class Judge:
    """Looks at failed conversations, and keeps what it loads of their domains.

    Args:
        known: worlds that need not be loaded, by the name that records call them.
    """

    def __init__(self, known: Mapping[str, World] | None = None) -> None:
        self._courts: dict[str, _Court | None] = {name: _Court(world) for name, world in (known or {}).items()}

    def judge(self, record: AttemptRecord) -> Judged | None:
        """What is proven of a conversation; None for a success, or what infrastructure ended."""
        if record["reward"] is None or is_success(record["reward"]):
            return None
        domain = record["domain"]
        if domain not in self._courts:
            self._courts[domain] = _court(domain)
        court = self._courts[domain]
        task = None if court is None else court.task(record)
        if court is None or task is None:
            unread = failures.classify(record, court.writes if court else frozenset())
            findings = of_agent.unreadable(record, unread)
        else:
            findings = court.findings(record, task)
        return Judged(
            domain=domain,
            task_id=record["task_id"],
            attempt=record["attempt"],
            examined=task is not None,
            findings=tuple(findings),
        )

    def judge_all(self, records: Iterable[AttemptRecord]) -> list[Judged]:
        """What is proven of each failed conversation among records."""
        return [judged for judged in map(self.judge, records) if judged is not None]


class _Court:
    """What is known of one domain or task set."""

    def __init__(self, world: World):
        self.world = world
        self.writes = frozenset(world.writes)
        self.choices = valueflow.choices(world)
        self.policy = Known(world.policy)

    def task(self, record: AttemptRecord) -> bench.Task | None:
        """The task of a record; None where it is not the one that the record was scored on."""
        if record["tasks_sha256"] != self.world.tasks_sha256:
            return None
        return self.world.tasks.get(record["task_id"])

    def findings(self, record: AttemptRecord, task: bench.Task) -> list[Finding]:
        """Whatever a check finds, the reference's faults first; of one kind the first in each message."""
        talk = Conversation(record, task, self.world, choices=self.choices, policy=self.policy)
        found = [
            *of_reference.only_the_order(talk, self.writes),
            *of_reference.against_policy(talk),
            *of_user_said.said_otherwise(talk),
            *of_user_left_out.left_out(talk),
            *of_user_ended.not_done(talk),
            *of_user_ended.stopped_early(talk),
            *of_agent.made_up(talk),
            *of_agent.other_than_told(talk),
            *of_agent.rule_broken(talk),
            *of_agent.unreadable(record, failures.classify(record, self.writes)),
        ]
        return list({(finding.kind, finding.message): finding for finding in reversed(found)}.values())[::-1]


def _court(domain: str) -> _Court | None:
    try:
        return _Court(worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL))
    except (BenchDataError, ConfigError):  # a run of another machine's domain is still worth reading
        return None


def shares(judged: Sequence[Judged]) -> dict[str, int]:
    """{whose fault: failed conversations}, all of `Judged.whose`."""
    found = Counter(j.whose for j in judged)
    return {whose: found[whose] for whose in (*PARTIES, SEVERAL, UNTOLD)}
