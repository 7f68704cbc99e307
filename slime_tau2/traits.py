"""What is peculiar to a domain, in one table.

Code that must behave differently from domain to domain asks `of(domain)`; nothing else compares names. A domain of your
own brings its traits when it registers (`slime_tau2.bench.register_domain(…, traits=Traits(…))`); without any it gets
the defaults, which are right for every domain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

BENCHMARKS = ("airline", "retail", "telecom")
"""The three domains of tau2's leaderboard: the model card reports them, the launch profiles train on them."""

_CARD_WEIGHTS = MappingProxyType({"action": 0.5, "communicate": 0.15, "env_assertion": 0.35})
_CARD_WEIGHTS_TELECOM = MappingProxyType({"action": 0.35, "communicate": 0.35, "env_assertion": 0.30})


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The traits of one domain."""

    copy_on_write: bool = False
    """The database is plain tables, {key: row} each, and tools change a row only after they took it out by its key.
    Then environments share one copy of the tables and copy a row when it is taken out; else each gets a whole copy."""

    pure_reads: bool = False
    """With `copy_on_write`: tools that tau2 types as READ change nothing, what they return neither, and answer by the
    tables alone. Then they are handed the shared rows themselves, and what they answer over tables that nobody has
    changed is remembered."""

    without_judge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How tasks are scored without the judge of natural-language assertions: {value of `retail_basis`: kinds of reward
    that take the judge's place}. Empty: `retail_basis` changes nothing."""

    vintage: str = ""
    """The one vintage of tau2 that has the domain, as a message names it; empty: each has it."""

    files_of: str = ""
    """The domain in whose folder of tau2's data the domain's own files are; empty: it has a folder of its name."""

    records: tuple[str, ...] = ("user_id", "order_id", "reservation_id")
    """Arguments of tools that name a record of the database. Tasks whose solutions touch the same record go to the same
    side of the split `val`."""

    retrieval: bool = False
    """The environment is built for a retrieval kind (the option `retrieval`)."""

    scripted_user: str = ""
    """Import path (`module:Class`) of a user simulator that needs no model, for `user: scripted`; empty: none."""

    teacher: str = ""
    """Import path of `Teacher(seed, flaws)`, a scripted agent with `act(text, is_error)`; empty: none."""

    teacher_steps: int = 200
    """Most steps of an episode that the teacher plays."""

    family: Callable[[str], str] | None = None
    """The group of a task in tables, from its id; None: the whole domain is one group."""

    card_multiplier: float = 1.0
    """Factor of the partial score in `shaping: card`."""

    card_weights: Mapping[str, float] = field(default_factory=lambda: _CARD_WEIGHTS)
    """Weights of the partial score's components in `shaping: card`."""


def _without_number(task_id: str) -> str:
    return task_id.rsplit("_", 1)[0]


_TELECOM = Traits(files_of="telecom", card_multiplier=1.6, card_weights=_CARD_WEIGHTS_TELECOM)
_table: dict[str, Traits] = {
    "airline": Traits(copy_on_write=True, pure_reads=True),
    "retail": Traits(
        copy_on_write=True,
        pure_reads=True,
        without_judge={"communicate": ("COMMUNICATE",), "no_judge": ()},
        card_multiplier=0.8,
    ),
    "telecom": _TELECOM,
    "telecom-workflow": _TELECOM,
    "telecom_full": _TELECOM,
    "telecom_small": _TELECOM,
    "banking_knowledge": Traits(
        without_judge={"communicate": (), "no_judge": ()},
        vintage="v1.0.x",
        retrieval=True,
    ),
    "helpdesk": Traits(
        scripted_user="slime_tau2.domains.helpdesk.user:ScriptedUser",
        teacher="slime_tau2.domains.helpdesk.teacher:Teacher",
        teacher_steps=120,
        family=_without_number,
    ),
}
_default = Traits()


def of(domain: str) -> Traits:
    """The traits of a domain; the defaults for one that has none of its own."""
    return _table.get(domain, _default)


def register(domain: str, traits: Traits) -> None:
    """Set a domain's traits."""
    _table[domain] = traits


def known(domain: str) -> bool:
    """Whether a domain, or a task set, has traits of its own."""
    return domain in _table


def forget(domain: str) -> None:
    """Take a domain's traits away."""
    _table.pop(domain, None)


def names(has: Callable[[Traits], object]) -> list[str]:
    """Names of the domains whose traits satisfy `has`."""
    return [name for name, traits in _table.items() if has(traits)]


def domains_with(has: Callable[[Traits], object]) -> str:
    """The same, for a message."""
    return ", ".join(names(has)) or "no domain"
