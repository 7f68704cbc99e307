"""Where drafts come from: a user's case, the families that look at it, and the factory of a domain; and a write of a
finished task, in the case that it was made in.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slime_tau2 import bench
from slime_tau2.errors import FactoryError
from slime_tau2.factory import answers
from slime_tau2.factory.draft import Call, Draft, Identity, Outcome, Wish
from slime_tau2.factory.rules import Finding, Rule
from slime_tau2.factory.stories import PERSONAS

if TYPE_CHECKING:
    from slime_tau2.episode.world import World
    from slime_tau2.verification.plays import Step


class Case:
    """One user's situation while a draft is made: an environment of its own, on which gold calls are played.

    Attributes:
        owner: whom the task is about.
        rng: where all chance comes from.
        environment: a new one by default.
        peers: all owners in the same split, this one too, for wishes that are about somebody else.
        recipe: families of the task, where it is made by one.
        wishes: what has been wished, and played, before.
        returned: what the gold calls so far have returned, as tau2 writes it.
        data: tau2's InitializationData that the wishes find.
    """

    def __init__(
        self,
        world: World,
        owner: str,
        rng: random.Random,
        peers: Sequence[str] = (),
        *,
        environment: bench.Environment | None = None,
    ):
        self.world, self.owner, self.rng, self.peers = world, owner, rng, peers
        self.environment: bench.Environment = world.environments.fresh() if environment is None else environment
        self.recipe: tuple[str, ...] = ()
        self.wishes: list[Wish] = []
        self.returned: list[str] = []
        self.data: Mapping[str, Any] = {}

    @property
    def db(self) -> Any:
        """The agent's database as the wishes so far have left it. To be read only."""
        return self.environment.tools.db

    def touched(self, entity: str) -> bool:
        """Whether an earlier wish is about a record."""
        return any(entity in wish.entities for wish in self.wishes)

    def play(self, wish: Wish) -> None:
        """Bring the environment to where the wish's gold calls leave it.

        Raises:
            FactoryError: a gold call fails that should not, or the other way round.
        """
        set_up(self.environment, [wish])
        self.returned += map(self.environment.to_json_str, run(self.environment, wish.calls))
        self.wishes.append(wish)


@dataclass(frozen=True, kw_only=True)
class Write:
    """One write of a conversation, in its place.

    Attributes:
        case: the owner's case as the calls before have left it.
        begun: the owner's case as the task begins.
        calls: all calls of the conversation.
        number: which of them is the write.
        story: all that the user model reads.
    """

    case: Case
    begun: Case
    calls: Sequence[Step]
    number: int
    story: str

    @property
    def call(self) -> Step:
        """The write itself."""
        return self.calls[self.number]

    @property
    def earlier(self) -> Sequence[Step]:
        """The calls before it."""
        return self.calls[: self.number]

    @property
    def later(self) -> Sequence[Step]:
        """The calls after it."""
        return self.calls[self.number + 1 :]


def set_up(
    environment: bench.Environment,
    wishes: Iterable[Wish],
    scene: Iterable[bench.EnvFunctionCall] = (),
    data: Mapping[str, Any] | None = None,
) -> None:
    """Bring an environment to where a conversation about these wishes begins, in a scene, over data of its own."""
    wishes = list(wishes)
    for part in filter(None, [data, *(wish.data for wish in wishes)]):
        environment.set_state(bench.InitializationData(**part), None, [])
    for call in (*scene, *(call for wish in wishes for call in wish.setup)):
        environment.run_env_function_call(call)
    environment.sync_tools()


def run(environment: bench.Environment, calls: Iterable[Call]) -> list[Any]:
    """Play calls on an environment as a conversation does; what they return, None for those that are meant to fail.

    Raises:
        FactoryError: a call fails that should not, or does not fail that should.
    """
    results: list[Any] = []
    for call in calls:
        try:
            arguments = copy.deepcopy(dict(call.arguments))
            result = environment.make_tool_call(tool_name=call.name, requestor=call.requestor, **arguments)
            environment.sync_tools()
        except Exception as error:
            if not call.errs:
                raise FactoryError(f"the gold call {call.name} {dict(call.arguments)} fails: {error}") from error
            result = None
        else:
            if call.errs:
                raise FactoryError(f"the gold call {call.name} {dict(call.arguments)} is meant to fail and does not")
        results.append(result)
    return results


def by_databases(draft: Draft) -> tuple[str, ...]:
    """The databases and what is told, and the transfer where a wish ends with a person: no database shows it."""
    transferred = any(wish.outcome == "transferred" for wish in draft.wishes)
    return ("DB", "COMMUNICATE", "ACTION") if transferred else ("DB", "COMMUNICATE")


@dataclass(frozen=True)
class Family:
    """A kind of wish.

    Attributes:
        make: looks at a case and returns a wish, or None where the user has nothing for it. It plays nothing.
        outcome: what becomes of all its wishes.
        identity: how the agent finds out, or does not, who the user is, if not as the factory has it.
    """

    make: Callable[[Case], Wish | None]
    outcome: Outcome = "done"
    identity: Callable[[Case], Identity] | None = None


@dataclass(frozen=True, kw_only=True)
class Factory:
    """A domain's knowledge: everything that the factory must be told of a domain.

    Attributes:
        variant: what tells it from the domain's other factories; "" for the first.
        owners: whom tasks may be about, sorted: nobody who appears in a test or val task.
        identity: how the agent finds out who the user is.
        scene: calls of the environment's functions that come before all else, for domains whose tasks bring their own
            customers. It draws from the case's chance and plays nothing.
        data: tau2's InitializationData with the customer's records, likewise.
        held_out: share of the owners whose tasks never train.
        families: {name: family}.
        recipes: {families of a task, in order of the wishes: weight}. Weights count among recipes that end alike:
            how many tasks are refused or transferred is for the caller to say.
        possible: whether anybody's case has all wishes of a recipe; one that has not is not tried with every owner.
        rules: the whole policy by name.
        basis: tau2's reward basis of a draft's task.
        guards: what else must hold at the end, seen from a case whose wishes are all played: that nothing was touched
            that nobody asked for.
        personas: how users are, in tau2's persona; each a whole text.
        ruling: what the rules say of a write of a finished task, as far as the database before it, the calls and the
            scenario decide; None for domains whose rules are not evaluated anew.
        attempts: writes that nobody asks for, on the database as gold leaves it; each is lost with one of them made.
        notes: what stands as JSON in `description.notes` beside what `build.notes` says, for domains whose user reads
            it.
        kind: what a draft's id has after the domain; its families, if None.
    """

    domain: str
    owners: Callable[[World], list[str]]
    identity: Callable[[Case], Identity]
    families: Mapping[str, Family]
    recipes: Mapping[tuple[str, ...], float]
    rules: Mapping[str, Rule]
    basis: Callable[[Draft], tuple[str, ...]] = by_databases
    scene: Callable[[Case], tuple[bench.EnvFunctionCall, ...]] = lambda case: ()
    data: Callable[[Case], Mapping[str, Any]] = lambda case: {}
    possible: Callable[[tuple[str, ...]], bool] = lambda recipe: True
    guards: Callable[[Case], tuple[bench.EnvAssertion, ...]] = lambda case: ()
    personas: Sequence[str] = PERSONAS
    ruling: Callable[[Write], Iterable[Finding]] | None = None
    attempts: Callable[[Case], Iterator[tuple[Call, ...]]] | None = None
    notes: Callable[[Draft], Mapping[str, Any]] | None = None
    kind: Callable[[Draft], str] | None = None
    held_out: float = 0.1
    variant: str = ""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return f"{self.domain}-{self.variant}" if self.variant else self.domain

    def outcome(self, recipe: tuple[str, ...]) -> Outcome:
        """What becomes of tasks that are made by a recipe."""
        outcomes = {self.families[family].outcome for family in recipe}
        if "done" in outcomes:
            return "done"
        return "transferred" if "transferred" in outcomes else "refused"

    def draft(self, recipe: tuple[str, ...], case: Case) -> Draft | None:
        """A draft by a recipe; None where the case does not allow a wish of it, or an answer may be said by chance.

        Raises:
            FactoryError: a family made a wish that contradicts itself, or whose gold calls fail.
        """
        case.recipe = recipe
        scene = self.scene(case)
        case.data = self.data(case)
        set_up(case.environment, (), scene, case.data)
        identities = [family.identity for family in map(self.families.__getitem__, recipe) if family.identity]
        identity = (identities or [self.identity])[0](case)
        for name in recipe:
            wish = self.families[name].make(case)
            if wish is None:
                return None
            # who hands the user over instead of saying no does not get to what comes afterwards
            after = wish.after or any(earlier.outcome == "refused" for earlier in case.wishes)
            wish = dataclasses.replace(wish, family=name, after=after)
            wish.check()
            case.play(wish)
        draft = Draft(
            domain=self.domain,
            owner=case.owner,
            identity=identity,
            wishes=tuple(case.wishes),
            scene=scene,
            guards=self.guards(case),
            data=case.data,
        )
        returned = [*case.returned, *map(case.environment.to_json_str, _prove(case.world, draft))]
        if not answers.unmistakable(draft, returned):
            return None
        one_by_one = _told_one_by_one(case.wishes) or _order_matters(case, draft)
        return dataclasses.replace(draft, one_by_one=one_by_one)


def _prove(world: World, draft: Draft) -> list[Any]:
    """Play a draft from its beginning, as tau2 will: all set-up first, then all gold calls; what they return.

    Without assertions only those calls are played that no wish has.

    Raises:
        FactoryError: a call fails; an assertion does not hold at the end, or all of a wish's hold at the beginning
            though there is something to do.
    """
    environment = world.environments.fresh()
    if not draft.assertions():
        set_up(environment, (), draft.scene, draft.data)
        return run(environment, draft.identity.calls)
    set_up(environment, draft.wishes, draft.scene, draft.data)
    for wish in draft.wishes:
        if wish.writes() and wish.assertions and all(_holds(environment, assertion) for assertion in wish.assertions):
            raise FactoryError(f"{wish.family}: all assertions hold before anything is done")
    returned = run(environment, draft.calls())
    failing = [a.func_name for a in draft.assertions() if not _holds(environment, a)]
    if failing:
        families = ", ".join(draft.families)
        raise FactoryError(f"{families}: these assertions do not hold at the end: {', '.join(failing)}")
    return returned


def _holds(environment: bench.Environment, assertion: bench.EnvAssertion) -> bool:
    return environment.run_env_assertion(assertion, raise_assertion_error=False)


def _told_one_by_one(wishes: Sequence[Wish]) -> bool:
    """Whether a wish depends on what came before it, or on what another wish may change."""
    if any(wish.after for wish in wishes[1:]):
        return True
    return any(one is not other and one.sensitive & other.entities for one in wishes for other in wishes)


def _order_matters(case: Case, draft: Draft) -> bool:
    """Whether the same wishes in the reverse order fail or lead elsewhere."""
    writing = [wish for wish in case.wishes if wish.writes()]
    if len(writing) < 2:
        return False
    environments = case.world.environments
    other = environments.fresh()
    set_up(other, case.wishes, draft.scene, draft.data)
    try:
        for wish in reversed(writing):
            run(other, wish.writes())
    except FactoryError:
        return True
    return not environments.same(environments.state(case.environment), environments.state(other))
