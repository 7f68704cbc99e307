"""The eight checks on tasks of a world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slime_tau2 import bench
from slime_tau2.episode.grading import bare_simulation
from slime_tau2.episode.world import World
from slime_tau2.verification import answers, declared, leaks, orders, valueflow, violations
from slime_tau2.verification.checks import CHECKS, KINDS, Finding
from slime_tau2.verification.declared import Declared
from slime_tau2.verification.plays import Fork, Made, Scene, Step, tool_call
from slime_tau2.verification.variations import Values, Variation, by_shape, variations
from slime_tau2.verification.violations import Attempts

ALL = frozenset(CHECKS)
IDLE = ("Is there anything else that I can do for you?",)
TRANSFER = (Made("transfer_to_human_agents", {"summary": "-"}),)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one task.

    Attributes:
        task: the id.
        findings: in the checks' order.
        free: {number of a gold call: its arguments that may have other values, and keep the reward}.
        order_only: {number of a gold call: lists whose order alone may lose the reward}.
        order_fixed: {number of a gold call: lists whose order decides, and is fixed by the scenario or by dates, or is
            declared to be}.
        evaluated: whether tau2's own evaluator graded gold too.
    """

    task: str
    findings: tuple[Finding, ...]
    free: Mapping[int, tuple[str, ...]]
    order_only: Mapping[int, tuple[str, ...]]
    order_fixed: Mapping[int, tuple[str, ...]]
    evaluated: bool

    def refusals(self, accepted: Collection[str] = ()) -> list[Finding]:
        """The findings for which the task is refused.

        Args:
            accepted: kinds that refuse nothing.
        """
        return [f for f in self.findings if KINDS[f.kind].refuses and f.kind not in accepted]


class Ruled(Protocol):
    """Whether one rule of the policy holds for one write."""

    @property
    def rule(self) -> str: ...
    @property
    def holds(self) -> bool: ...


class Rulings(Protocol):
    """What evaluates a policy anew: {number of a write: what was found of each rule that it touches}."""

    def __call__(
        self, world: World, task: bench.Task, calls: Sequence[Step], *, owner: str
    ) -> Mapping[int, Sequence[Ruled]]: ...


class Verifier:
    """Verifies tasks of one world.

    Args:
        own: the domain's own world, whose test tasks check 6 compares with.
        checks: numbers of the checks to make.
        evaluated: share of the tasks that tau2's own evaluator grades too, in check 1; it builds two or three
            environments per task. Which tasks is decided by their ids.
        rulings: evaluates the policy anew for the writes of a factory's tasks; None: what they say of it is believed.
        attempts: makes writes that nobody asks for; None: check 8 finds nothing.
    """

    def __init__(
        self,
        world: World,
        own: World,
        *,
        checks: Collection[int] = ALL,
        evaluated: float = 0.0,
        rulings: Rulings | None = None,
        attempts: Attempts | None = None,
    ):
        self.world, self.own, self.checks = world, own, frozenset(checks)
        self.share, self.rulings, self.attempts = evaluated, rulings, attempts
        tasks = [*world.tasks.values(), *(own.tasks.values() if own is not world else ())]
        self.values = Values(tasks)
        self.reader = valueflow.Reader(world, tasks)
        stages = {**own.stages, **{f"{world.name}/{name}": stage for name, stage in world.stages.items()}}
        self.records = leaks.Records({id(s): s.environments.base.tools.db for s in stages.values()}.values())
        self.held = leaks.held(own, self.records, common=own is world)

    def verify(self, task: bench.Task) -> Verdict:
        """All that is found of one task."""
        return _Subject(self, task).verdict()

    def verify_all(self, task_ids: Sequence[str]) -> Iterator[Verdict]:
        """The verdicts on tasks of the world, one after the other."""
        for task_id in task_ids:
            yield self.verify(self.world.task(task_id))


class _Subject:
    """One task while it is verified."""

    def __init__(self, verifier: Verifier, task: bench.Task):
        self.verifier, self.world = verifier, verifier.world
        self.declared: Declared | None = declared.of(task)
        self.task = _without_judge(task)
        self.judged = self.task is not task
        self.scene = Scene(self.world.stage(task), self.task)
        criteria = task.evaluation_criteria
        self.gold: list[bench.Action] = list((criteria.actions if criteria else None) or [])
        self.words: list[str] = list((criteria.communicate_info if criteria else None) or [])
        self.writes = [n for n, action in enumerate(self.gold) if action.name in self.world.writes]
        self.refusal = self.declared is not None and self.declared.outcome != "done"
        self.findings: list[Finding] = []
        self.free: dict[int, tuple[str, ...]] = {}
        self.order_only: dict[int, tuple[str, ...]] = {}
        self.order_fixed: dict[int, tuple[str, ...]] = {}
        self.evaluated = False

    def find(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, text))

    def verdict(self) -> Verdict:
        checks = self.verifier.checks
        if self.task.evaluation_criteria is None:
            self.find("no-criteria", "evaluation_criteria is null")
        else:
            earns = self._gold_earns() if checks & {1, 3, 7, 8} else False
            if 2 in checks:
                self._idleness()
            if earns and self.writes and checks & {3, 7}:
                self._exactness()
            if earns and 3 in checks:
                self._answers()
            if earns and 8 in checks and self.verifier.attempts is not None:
                self._violations(self.verifier.attempts)
            if 5 in checks and self.writes:
                self._sources()
        if 4 in checks:
            self._policy()
        if 6 in checks:
            self._leaks()
        order = list(KINDS)
        return Verdict(
            task=self.task.id,
            findings=tuple(sorted(self.findings, key=lambda f: order.index(f.kind))),
            free=self.free,
            order_only=self.order_only,
            order_fixed=self.order_fixed,
            evaluated=self.evaluated,
        )

    # 1

    def _gold_earns(self) -> bool:
        """Check 1; whether the gold calls earn 1.0."""
        played = self.scene.play(self.gold, self.words)
        graded = self.scene.grade(played)
        earns = float(graded.reward) == 1.0
        if 1 not in self.verifier.checks:
            return earns
        if self.judged:
            self.find("judged", "natural-language assertions are in the basis")
        if not earns:
            parts = {kind.value: value for kind, value in (graded.reward_breakdown or {}).items() if value != 1.0}
            self.find("gold-loses", ", ".join(f"{kind} {value:g}" for kind, value in parts.items()))
        for action, errs in zip(self.gold, played.errs, strict=True):
            if errs != (action.info == declared.MEANT_TO_FAIL):
                self.find("gold-fails", f"{action.name}: {'' if errs else 'meant to fail and does not'}".rstrip(": "))
        if _drawn(self.task.id, self.verifier.share):
            self.evaluated = True
            simulation = bare_simulation(self.task, "user_stop", played.messages)
            theirs = bench.evaluate(simulation, self.task, self.scene.stage.spec)
            if theirs.reward != graded.reward:
                self.find("not-replayable", f"{theirs.reward:g}, not {graded.reward:g}")
        return earns

    # 2

    def _idleness(self) -> None:
        if self.refusal:
            return
        if self._pays((), IDLE):
            if self.writes:
                self.find("nothing-pays", f"gold's writes: {', '.join(self._names())}")
            else:
                self.find("refusal-undeclared", "gold has no write" if self.gold else "gold has no call")
            return  # so do the others
        if self._has_transfer() and self._pays(TRANSFER, ()):
            if self.writes:
                self.find("transfer-pays", f"gold's writes: {', '.join(self._names())}")
            else:
                self.find("refusal-undeclared", "gold has no write, a transfer earns all")
            return
        if any(self.gold[n].arguments for n in self.writes) or not self.writes:
            empty = [Made(action.name, {}, action.requestor) for action in self.gold]
            if self._pays(empty, ()):
                self.find("empty-pays", ", ".join(dict.fromkeys(action.name for action in self.gold)))

    def _has_transfer(self) -> bool:
        return TRANSFER[0].name in self.scene.stage.grader.tool_types

    def _pays(self, calls: Sequence[Step], words: Sequence[str]) -> bool:
        return self.scene.reward(calls, words) > 0

    def _names(self) -> list[str]:
        return list(dict.fromkeys(self.gold[n].name for n in self.writes))

    # 3 and 7

    def _exactness(self) -> None:
        gold: Sequence[Step] = self.gold
        writes = self.writes
        kept = self._without_reads()
        if kept is not None:
            gold, writes = kept, list(range(len(kept)))
        if 3 in self.verifier.checks:
            results = by_shape(self._results())
            for variation in variations(gold, writes, self.verifier.values, results):
                self._vary(variation, self.writes[writes.index(variation.write)], gold)
        if 7 in self.verifier.checks:
            found = orders.order_only(self.scene, gold, writes, self.words)
            self._orders({self.writes[writes.index(number)]: names for number, names in found.items()})

    def _answers(self) -> None:
        """Check 3 of what has to be told: said by no other words than those that are meant to."""
        if not self.words:
            return
        story = valueflow.told(self.task)
        paper = [json.dumps(dict(action.arguments)) for action in self.gold] + self._results(writes=True)
        for number, answer in enumerate(self.words):
            others = [*self.words[:number], *self.words[number + 1 :]]
            said = [*others, story, *(answers.without(answer, text) for text in paper)]
            if self.scene.reward(self.gold, list(filter(None, said))) == 1.0:
                where = "in the story" if answer.lower() in story.lower().replace(",", "") else "in other words"
                self.find("answer-unneeded", f"{answer}: {where}")

    def _without_reads(self) -> list[Step] | None:
        """The writes alone, where they earn as much as all gold calls: reads take most of the time."""
        if self.scene.stage.environments.base.user_tools is not None:
            return None
        kept: list[Step] = [self.gold[n] for n in self.writes]
        return kept if self.scene.reward(kept, self.words) == 1.0 else None

    def _results(self, *, writes: bool = False) -> list[str]:
        """What gold's reads return, and the writes too if wanted."""
        environment = self.scene.start()
        out = []
        for number, action in enumerate(self.gold):
            result = environment.get_response(tool_call(action))
            if (writes or number not in self.writes) and not result.error and result.content:
                out.append(result.content)
        return out

    def _vary(self, variation: Variation, number: int, gold: Sequence[Step]) -> None:
        if variation.argument and variation.argument in self.free.get(number, ()):
            return
        if self.scene.reward(variation.calls, self.words) != 1.0:
            return
        if variation.kind == "dropped":
            self.find("write-unneeded", variation.text)
        elif variation.kind == "doubled":
            if not self._harmless(variation, gold):
                self.find("write-doubled", variation.text)
        else:
            self.free[number] = (*self.free.get(number, ()), variation.argument)
            self.find("argument-free", variation.text)

    def _harmless(self, variation: Variation, gold: Sequence[Step]) -> bool:
        """Whether a doubled write changes nothing the second time."""
        environments = self.scene.stage.environments
        once, twice = (
            environments.state(self.scene.play(calls).environment)
            for calls in (gold[: variation.write + 1], variation.calls[: variation.write + 2])
        )
        return environments.same(once, twice)

    def _orders(self, found: Mapping[int, tuple[str, ...]]) -> None:
        story = valueflow.told(self.task)
        for number, names in found.items():
            arguments = self.gold[number].arguments
            said = self.declared.in_order.get(str(number), ()) if self.declared else ()
            marked = self.declared.any_order.get(str(number), ()) if self.declared else ()
            fixed = {name: name in said or bool(orders.fixed_by(arguments[name], story)) for name in names}
            open_ = tuple(name for name in names if name in marked or not fixed[name])
            if open_:
                self.order_only[number] = open_
                if unmarked := [name for name in open_ if name not in marked]:
                    self.find("order-decides", f"{self.gold[number].name}: {', '.join(unmarked)}")
            if closed := tuple(name for name in names if name not in open_):
                self.order_fixed[number] = closed

    # 4

    def _policy(self) -> None:
        if self.declared is None:
            self.find("policy-unchecked", "no factory made it")
            return
        if self.refusal and self.writes:
            self.find("refusal-writes", f"{self.declared.outcome}: {', '.join(self._names())}")
        for wish in self.declared.wishes:
            broken = [rule for rule, holds in wish.rules.items() if not holds]
            if wish.outcome == "done" and broken:
                self.find("rule-broken", f"{wish.family}: {', '.join(broken)}")
            if wish.outcome != "done" and not broken:
                self.find("refusal-unnamed", f"{wish.family}: {wish.outcome}")
        if not any(wish.rules for wish in self.declared.wishes):
            self.find("policy-unchecked", "no wish names a rule")
        if self.verifier.rulings is not None:
            self._rules_anew(self.verifier.rulings, self.declared.owner)

    def _rules_anew(self, rulings: Rulings, owner: str) -> None:
        for number, found in rulings(self.world, self.task, self.gold, owner=owner).items():
            name = self.gold[number].name
            if broken := [ruled.rule for ruled in found if not ruled.holds]:
                self.find("rule-broken", f"{name}: {', '.join(broken)}, evaluated anew")
            if not found:
                self.find("policy-unchecked", f"no rule speaks of {name}")

    # 8

    def _violations(self, attempts: Attempts) -> None:
        fork = Fork(self.scene, self._without_reads() or self.gold)
        owner = attempts.owner(self.task, fork.trunk.environment)
        if owner is None:
            return
        made = attempts.of(self.world, fork.trunk.environment, owner=owner)
        for calls in violations.rewarded(fork, list(made), self.words):
            broken = self._broken_by(calls, owner)
            first = f"{calls[0].name} {json.dumps(dict(calls[0].arguments))}"
            self.find("violation-pays" if broken else "unasked-pays", ": ".join(filter(None, (first, broken))))

    def _broken_by(self, calls: Sequence[Step], owner: str) -> str:
        """The rules that calls after gold break, and gold does not."""
        if self.verifier.rulings is None:
            return ""
        found = self.verifier.rulings(self.world, self.task, [*self.gold, *calls], owner=owner)
        broken = [{ruled.rule for ruled in found.get(n, ()) if not ruled.holds} for n in range(len(self.gold) + 1)]
        return ", ".join(sorted(broken[-1].difference(*broken[:-1])))

    # 5

    def _sources(self) -> None:
        kinds = {"": "argument-unknown", "choice": "choice-untold", "search": "search-needed"}
        for found in valueflow.sources(self.scene, self.gold, self.writes, self.verifier.reader):
            action = self.gold[found.call]
            compared = action.compare_args is None or found.argument.split("[")[0].split(".")[0] in action.compare_args
            free = found.argument in self.free.get(found.call, ()) or not compared
            if found.source in kinds and not free:
                kind = kinds[found.source]
                if kind == "argument-unknown" and found.number:
                    kind = "number-unknown"
                self.find(kind, f"{action.name}: {found.argument} {found.value}")

    # 6

    def _leaks(self) -> None:
        if self.task.id in self.verifier.own.splits.get("test", ()) and self.world is self.verifier.own:
            return  # it is one
        held = self.verifier.held
        if records := held.records_of(self.verifier.records.of(self.task)):
            self.find("test-record", f"{', '.join(list(records)[:3])} of test task {min(records.values())}")
        if said := held.sentences_of(leaks.sentences(self.task)):
            self.find("test-sentence", f"{len(said)} of test task {min(said.values())}")


def _without_judge(task: bench.Task) -> bench.Task:
    """The task without its judge's part of the reward; the task itself where no judge is asked."""
    criteria = task.evaluation_criteria
    if criteria is None or not criteria.nl_assertions or bench.RewardType.NL_ASSERTION not in criteria.reward_basis:
        return task
    kinds = [kind for kind in criteria.reward_basis if kind != bench.RewardType.NL_ASSERTION]
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"reward_basis": kinds})})


def _drawn(task_id: str, share: float) -> bool:
    digest = hashlib.sha256(f"evaluated/{task_id}".encode()).digest()
    return int.from_bytes(digest[:4]) < share * 2**32
