"""tau2 tasks of a domain by number and seed.

Everything follows from the seed: two calls make the same tasks, in the same order. No two tasks have the same key, and
the ids are made of the keys, so that sets of several seeds can be joined and what they share is seen.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.factory import factories
from slime_tau2.factory.case import Case, Factory
from slime_tau2.factory.draft import Call, Draft, Outcome
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import Story, tell
from slime_tau2.seeds import derive_seed
from slime_tau2.verification import declared

REFUSED, TRANSFERRED = 0.04, 0.05
"""Tasks with nothing to do but to say no, which pay for silence too, and tasks with nothing to do but to hand over."""
ROUNDS = 60
"""How often a recipe goes through all owners before it is given up."""

Recipe = tuple[str, ...]
Mix = Mapping[Recipe, float]


class Made(NamedTuple):
    """One task: tau2's JSON, and the draft that it was made from."""

    task: dict[str, Any]
    draft: Draft


def make(
    name: str,
    count: int,
    seed: int,
    *,
    mix: Mix | None = None,
    refused: float = REFUSED,
    transferred: float = TRANSFERRED,
) -> list[Made]:
    """`count` tasks of a domain, all different, in an order that mixes the recipes.

    Args:
        name: of the factory: its domain, with its variant if it has one.
        mix: {recipe: weight} instead of the factory's.
        refused: share of tasks that end without a write because the policy forbids the wish.
        transferred: share of tasks that end with a person.

    Raises:
        ConfigError: no factory for the domain, or it cannot make so many different tasks.
    """
    factory = factories.of(name)
    world = worlds.load(factory.domain)
    shares: dict[Outcome, float] = {"refused": refused, "transferred": transferred, "done": 1 - refused - transferred}
    quotas = _quotas(factory, mix or factory.recipes, count, shares)
    maker = _Maker(factory, world, seed)
    short = 0
    drafts: list[Draft] = []
    for recipe, wanted in quotas.items():
        got = maker.drafts(recipe, wanted)
        short += wanted - len(got)
        drafts += got
    for recipe in quotas:
        if short and factory.outcome(recipe) == "done":  # what some recipes could not make, others do
            got = maker.drafts(recipe, short)
            short -= len(got)
            drafts += got
    if short:
        raise ConfigError(
            f"{name}: {count - short} different tasks can be made with seed {seed}, not {count}: ask for so many, or "
            "make a second set with another seed"
        )
    random.Random(derive_seed("factory", name, seed, "order")).shuffle(drafts)
    return [Made(task_json(factory, draft, maker.story(draft)), draft) for draft in drafts]


class _Maker:
    """Makes drafts of one seed, none twice."""

    def __init__(self, factory: Factory, world: World, seed: int):
        self.factory, self.world, self.seed = factory, world, seed
        self.seen: set[str] = set()
        owners = factory.owners(world)
        held = {owner: held_out(factory.name, owner) for owner in owners}
        self.owners = owners
        sides = {side: [owner for owner in owners if held[owner] == side] for side in (True, False)}
        self.peers = {owner: sides[held[owner]] for owner in owners}
        self.rounds: Counter[Recipe] = Counter()
        self.waiting: dict[Recipe, list[str]] = {}

    def drafts(self, recipe: Recipe, wanted: int) -> list[Draft]:
        """Up to `wanted` new drafts by a recipe; fewer if the database has no more."""
        drafts: list[Draft] = []
        if not self.factory.possible(recipe):
            return drafts
        idle = 0
        while len(drafts) < wanted and idle < 3:
            if not self.waiting.get(recipe):
                if self.rounds[recipe] == ROUNDS:
                    break
                idle += 1
                self.rounds[recipe] += 1
                rng = self._rng(recipe, self.rounds[recipe])
                self.waiting[recipe] = rng.sample(self.owners, len(self.owners))
            owner = self.waiting[recipe].pop()
            case = Case(self.world, owner, self._rng(recipe, self.rounds[recipe], owner), self.peers[owner])
            draft = self.factory.draft(recipe, case)
            if draft is not None and draft.key not in self.seen:
                self.seen.add(draft.key)
                drafts.append(draft)
                idle = 0
        return drafts

    def story(self, draft: Draft) -> Story:
        return tell(draft, self._rng(draft.key, "story"), self.factory.personas)

    def _rng(self, *parts: object) -> random.Random:
        return random.Random(derive_seed("factory", self.factory.name, self.seed, *parts))


def _quotas(factory: Factory, mix: Mix, count: int, shares: Mapping[Outcome, float]) -> dict[Recipe, int]:
    """How many tasks of each recipe: largest remainders, within the recipes that end alike."""
    weights = Counter[Outcome]()
    for recipe, weight in mix.items():
        weights[factory.outcome(recipe)] += weight  # type: ignore[assignment]
    total = sum(share for outcome, share in shares.items() if weights[outcome])
    if not total:
        raise ConfigError(f"{factory.name}: the mix has no recipe of a weight above 0")
    present = {outcome: share / total for outcome, share in shares.items() if weights[outcome]}
    quotas = dict.fromkeys(mix, 0)
    for outcome, number in _apportion(present, count).items():
        alike = {r: weight / weights[outcome] for r, weight in mix.items() if factory.outcome(r) == outcome}
        quotas |= _apportion(alike, number)
    return quotas


Key = TypeVar("Key", Outcome, Recipe)


def _apportion(shares: Mapping[Key, float], count: int) -> dict[Key, int]:
    """`count` by shares that add up to 1: the largest remainders get what is left."""
    exact = {key: count * share for key, share in shares.items()}
    numbers = {key: int(number) for key, number in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (numbers[key] - exact[key], key))
    for key in by_remainder[: count - sum(numbers.values())]:
        numbers[key] += 1
    return numbers


def held_out(name: str, owner: str) -> bool:
    """Whether an owner's tasks are in the held-out split; the same in every set of a factory, whatever its seed.

    Args:
        name: the factory's.
    """
    digest = hashlib.sha256(f"factory/{name}/{owner}".encode()).digest()
    return int.from_bytes(digest[:4]) < factories.of(name).held_out * 2**32


def task_json(factory: Factory, draft: Draft, story: Story) -> dict[str, Any]:
    """tau2's JSON of a draft. What else is known of it stands as JSON in `description.notes`,
    under `declared.KEY`.
    """
    kind = factory.kind(draft) if factory.kind else "+".join(draft.families)
    task_id = f"{draft.domain}_{kind}_{hashlib.sha256(draft.key.encode()).hexdigest()[:10]}"
    setup = [_function(call) for call in draft.setup()]
    assertions = [_function(check) for check in draft.assertions()]
    data = _merged([draft.data, *(wish.data for wish in draft.wishes)])
    state = {"initialization_data": data, "initialization_actions": setup or None, "message_history": None}
    basis = factory.basis(draft)
    # every action counts in this basis, and nobody has to read what gold reads
    calls = [call for call in draft.calls() if "ACTION" not in basis or call.write or call.free]
    return {
        "id": task_id,
        "description": {
            "purpose": f"{draft.outcome}: {', '.join(draft.families)}",
            "relevant_policies": ", ".join(dict.fromkeys(finding.rule for finding in draft.findings())),
            "notes": json.dumps({**(factory.notes(draft) if factory.notes else {}), declared.KEY: notes(draft, calls)}),
        },
        "user_scenario": {
            "persona": story.persona,
            "instructions": {
                "domain": draft.domain,
                "reason_for_call": story.reason_for_call,
                "known_info": story.known_info,
                "unknown_info": story.unknown_info,
                "task_instructions": story.task_instructions,
            },
        },
        "ticket": None,
        "initial_state": state if setup or data else None,
        "evaluation_criteria": {
            "actions": [_action(task_id, number, call, basis) for number, call in enumerate(calls)],
            "env_assertions": assertions or None,
            "communicate_info": draft.tells(),
            "nl_assertions": None,
            "reward_basis": list(basis),
        },
    }


def _action(task_id: str, number: int, call: Call, basis: Sequence[str]) -> dict[str, Any]:
    compared = [name for name in call.arguments if name not in call.free] if call.free else None
    if {"ACTION", "DB"} <= {*basis} and call.write:
        compared = []  # the databases say whether it was right: the order of a list may not matter to them
    return {
        "action_id": f"{task_id}_{number}",
        "requestor": call.requestor,
        "name": call.name,
        "arguments": dict(call.arguments),
        "info": declared.MEANT_TO_FAIL if call.errs else None,
        "compare_args": compared,
    }


def _function(call: Any) -> dict[str, Any]:
    return dict(call.model_dump(mode="json"))


def _merged(data: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    merged: dict[str, Any] = {}
    for part in data:
        merged |= part
    return merged or None


def notes(draft: Draft, calls: Sequence[Call]) -> dict[str, Any]:
    """What a task declares of itself beside tau2's fields: `verification.declared.Declared`.

    Args:
        calls: those that stand in the task.
    """
    return {
        "owner": draft.owner,
        "outcome": draft.outcome,
        "difficulty": draft.difficulty,
        "identity": _rules(draft.identity.findings),
        "wishes": [
            {"family": w.family, "outcome": w.outcome, "rules": _rules(w.findings), "tried": _rules(w.tried)}
            for w in draft.wishes
        ],
        "free": {str(number): list(call.free) for number, call in enumerate(calls) if call.free},
        "any_order": {str(number): list(call.any_order) for number, call in enumerate(calls) if call.any_order},
        "in_order": {str(number): list(call.in_order) for number, call in enumerate(calls) if call.in_order},
        "entities": sorted(draft.entities()),
    }


def _rules(findings: Sequence[Finding]) -> dict[str, bool]:
    """{rule: whether it holds}; a rule that is found twice holds if it does both times."""
    rules: dict[str, bool] = {}
    for finding in findings:
        rules[finding.rule] = finding.holds and rules.get(finding.rule, True)
    return rules


LEVELS = ("easy", "medium", "hard")


def splits(name: str, made: Sequence[Made]) -> dict[str, list[str]]:
    """{split: task ids}: `train` and `held-out`, which share no owner; `base`, both; `easy`, `medium` and `hard`, the
    thirds of `train` by difficulty.
    """
    held = {m.task["id"] for m in made if held_out(name, m.draft.owner)}
    train = [m for m in made if m.task["id"] not in held]
    by_difficulty = sorted(train, key=lambda m: m.draft.difficulty)
    bounds = [len(train) * n // len(LEVELS) for n in range(len(LEVELS) + 1)]
    levels = {
        level: [m.task["id"] for m in by_difficulty[start:end]] for level, start, end in zip(LEVELS, bounds, bounds[1:])
    }
    return {
        "train": [m.task["id"] for m in train],
        "held-out": [m.task["id"] for m in made if m.task["id"] in held],
        "base": [m.task["id"] for m in made],
        **levels,
    }


@dataclass(frozen=True)
class Coverage:
    """How often a set touches what.

    Attributes:
        rules: {rule: (tasks in which it holds, tasks in which it is broken)}, all rules of the domain.
        tools: {tool: tasks whose gold calls have it}, all tools of agent and user.
        families: {family: tasks}.
        outcomes: {outcome: tasks}.
    """

    rules: dict[str, tuple[int, int]]
    tools: dict[str, int]
    families: dict[str, int]
    outcomes: dict[str, int]

    def table(self) -> str:
        """As text, one line per rule, tool, family and outcome."""
        lines = [f"{'rule':44} {'holds':>7} {'broken':>7}"]
        lines += [f"{rule:44} {holds:7} {broken:7}" for rule, (holds, broken) in self.rules.items()]
        for title, counts in (("tool", self.tools), ("family", self.families), ("outcome", self.outcomes)):
            lines += ["", f"{title:44} {'tasks':>7}"]
            lines += [f"{name:44} {number:7}" for name, number in counts.items()]
        return "\n".join(lines)


def coverage(name: str, made: Sequence[Made]) -> Coverage:
    """What a set of a factory covers of its domain's policy and tools."""
    factory = factories.of(name)
    world = worlds.load(factory.domain)
    holds, broken, tools, families = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for _, draft in made:
        holds.update({finding.rule for finding in draft.findings() if finding.holds})
        broken.update({finding.rule for finding in draft.findings() if not finding.holds})
        tools.update({call.name for call in draft.calls()})
        families.update(set(draft.families))
    return Coverage(
        rules={rule: (holds[rule], broken[rule]) for rule in factory.rules},
        tools={tool: tools[tool] for tool in sorted(world.grader.tool_types)},
        families={family: families[family] for family in factory.families},
        outcomes=dict(Counter(draft.outcome for _, draft in made)),
    )
