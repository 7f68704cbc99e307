"""Long conversations at the helpdesk: one customer, three to six requests, later ones leaning on what came before."""

from __future__ import annotations

import random
from typing import Any

from slime_tau2.domains.helpdesk import cases
from slime_tau2.factory.case import Case, Factory
from slime_tau2.factory.draft import Draft, Identity
from slime_tau2.factory.helpdesk import policy
from slime_tau2.factory.helpdesk.customers import data, idents, owners
from slime_tau2.factory.helpdesk.wishes import FAMILIES, requests_of

DRAWN = (
    "refund",
    "swap",
    "shipped",
    "delivered",
    "like",
    "phone",
    "same",
    "same",
    "by_amount",
    "by_amount",
    "two",
    "two",
)
"""Families, each as often as it is drawn; one that needs another before it is drawn in vain at times."""
EXCHANGED = {"swap": 1, "shipped": 1, "like": 1, "by_amount": 1, "two": 2}
"""{family: orders that it swaps or has sent back, at most}; `same` pays for one of them."""
NEEDS = {"same": tuple(EXCHANGED), "by_amount": ("refund", "same")}
"""{family: what has to have come before it}; of `by_amount`, just before it."""
RECIPES = 240


def _recipe(rng: random.Random) -> tuple[str, ...]:
    """The families of a case of three to six requests."""
    wanted, chosen, number = rng.choice((3, 4, 4, 5, 5, 6)), list[str](), 0
    while number < wanted:
        family = rng.choice(DRAWN)
        before = chosen[-1:] if family == "by_amount" else chosen
        if family in NEEDS and not set(NEEDS[family]) & set(before):
            continue
        if family == "phone" and "phone" in chosen:
            continue
        if (size := 2 if family == "two" else 1) + number > wanted:
            continue
        chosen.append(family)
        number += size
    return tuple(chosen)


def _recipes() -> dict[tuple[str, ...], float]:
    rng = random.Random("helpdesk cases: recipes")
    return dict.fromkeys((_recipe(rng) for _ in range(RECIPES)), 1.0)


def possible(recipe: tuple[str, ...]) -> bool:
    """Whether each `same` of a recipe has an order left that it can be about."""
    left = 0
    for family in recipe:
        left += -1 if family == "same" else EXCHANGED.get(family, 0)
        if left < 0:
            return False
    return True


def identity(case: Case) -> Identity:
    """Nobody is identified here: whoever knows an id is served."""
    return Identity((), (), (policy.known(True),))


def basis(draft: Draft) -> tuple[str, ...]:
    """Databases and what is told; for a phone its assertions too, which say how far its repair got."""
    return ("DB", "COMMUNICATE", "ENV_ASSERTION") if draft.assertions() else ("DB", "COMMUNICATE")


def notes(draft: Draft) -> dict[str, Any]:
    """What the scripted user reads."""
    orders, lines = idents(draft.owner)
    return cases.notes([request for wish in draft.wishes for request in requests_of(wish)], [*orders, *lines])


def kind(draft: Draft) -> str:
    """Cases are told apart by how many requests they have."""
    return f"cases{sum(len(requests_of(wish)) for wish in draft.wishes)}"


CASES = Factory(
    domain="helpdesk",
    variant="cases",
    owners=owners,
    identity=identity,
    data=data,
    families=FAMILIES,
    recipes=_recipes(),
    possible=possible,
    rules=policy.BOOK.rules,
    basis=basis,
    notes=notes,
    kind=kind,
    held_out=0.5,
)
