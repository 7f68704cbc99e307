"""Tasks of tau2's retail domain."""

from __future__ import annotations

from itertools import product

from slime_tau2.factory.case import Factory, Family
from slime_tau2.factory.retail import (
    address,
    boundaries,
    cancel,
    items,
    payment,
    payment_refusals,
    policy,
    questions,
    refusals,
    returns,
    transfers,
)
from slime_tau2.factory.retail.attempts import attempts
from slime_tau2.factory.retail.identity import identity
from slime_tau2.factory.retail.rulings import ruling
from slime_tau2.factory.retail.shop import owners

DONE = {
    "cancel": cancel.cancel,
    "cancel_all": cancel.cancel_all,
    "return_else_cancel": cancel.return_else_cancel,
    "remove_else_cancel": cancel.remove_else_cancel,
    "cancel_else_return": cancel.cancel_else_return,
    "modify_items": items.modify_items,
    "exchange_items": items.exchange_items,
    "return_items": returns.return_items,
    "order_address": address.order_address,
    "user_address": address.user_address,
    "modify_payment": payment.modify_payment,
    "rework": payment.rework,
}
QUESTIONS = {
    "variant_number": questions.variant_number,
    "price": questions.price,
    "item_number": questions.item_number,
    "price_of_variant": questions.price_of_variant,
    "order_total": questions.order_total,
    "tracking": questions.tracking,
    "status": questions.status,
    "refund": questions.refund,
    "spent": questions.spent,
}
REFUSED = {
    "cancel_too_late": refusals.cancel_too_late,
    "cancel_bad_reason": refusals.cancel_bad_reason,
    "cancel_other_refund": refusals.cancel_other_refund,
    "partial_cancel": refusals.partial_cancel,
    "add_item": refusals.add_item,
    "modify_too_late": refusals.modify_too_late,
    "return_too_early": refusals.return_too_early,
    "return_other_refund": refusals.return_other_refund,
    "other_product": refusals.other_product,
    "unavailable": refusals.unavailable,
    "payment_short": payment_refusals.payment_short,
    "payment_split": payment_refusals.payment_split,
    "payment_same": payment_refusals.payment_same,
    "not_in_order": refusals.not_in_order,
    "stranger": boundaries.stranger,
    "withdrawn": boundaries.withdrawn,
}
TRANSFERRED = {"profile": transfers.profile, "beyond": transfers.beyond, "undo": transfers.undo}
AFTERWARDS = ("modify_items", "exchange_items", "return_items")
"""Families after which an order can be changed no more."""

SINGLE, PAIR, ASKING, REFUSING, CLOSED, TRIPLE = 18.0, 30.0, 16.0, 8.0, 6.0, 14.0
"""How many tasks in a hundred of those with something to do are one wish; two; a wish and a question, or a question;
a wish and a refusal; a wish and one too many for the same order; three wishes.
"""
WEIGHT = {"return_items": 2.0, "exchange_items": 2.5, "modify_items": 2.5, "cancel_all": 0.6, "user_address": 0.8}
BESIDE_A_REFUSAL = ("cancel", "exchange_items", "return_items", "modify_items", "order_address")
COMBINED = (
    "cancel",
    "modify_items",
    "exchange_items",
    "return_items",
    "order_address",
    "user_address",
    "modify_payment",
)


def _recipes() -> dict[tuple[str, ...], float]:
    pairs = [(one, other) for one, other in product(COMBINED, COMBINED) if one != other]
    pairs += [(name, name) for name in ("cancel", "modify_items", "exchange_items", "return_items")]
    groups: list[tuple[float, list[tuple[str, ...]]]] = [
        (SINGLE, [(name,) for name in DONE]),
        (PAIR, [*pairs, ("rework", "return_items"), ("exchange_items", "rework"), ("cancel_all", "return_items")]),
        (
            ASKING,
            [(name,) for name in QUESTIONS] + [(name, q) for name in COMBINED for q in QUESTIONS if q != "status"],
        ),
        (REFUSING, [(no, name) for name in BESIDE_A_REFUSAL for no in REFUSED]),
        (REFUSING / 2, [(no, q) for q in ("variant_number", "price", "item_number", "order_total") for no in REFUSED]),
        (CLOSED, [*((name, "again") for name in AFTERWARDS), ("cancel", "undo")]),
        (TRIPLE, [(*pair, q) for pair in pairs for q in ("variant_number", "price", "item_number")]),
    ]
    recipes: dict[tuple[str, ...], float] = {}
    for share, group in groups:
        weights = [_weight(recipe) for recipe in group]
        recipes |= {recipe: share * weight / sum(weights) for recipe, weight in zip(group, weights)}
    recipes |= {(name,): 1.0 for name in REFUSED}
    recipes |= {("unidentified",): 3.0}
    recipes |= {("profile",): 1.0, ("beyond",): 2.0, ("return_too_early", "profile"): 0.3}
    return recipes


def _weight(recipe: tuple[str, ...]) -> float:
    weight = 1.0
    for name in recipe:
        weight *= WEIGHT.get(name, 1.0)
    return weight


RETAIL = Factory(
    domain="retail",
    owners=owners,
    identity=identity,
    families={
        **{name: Family(make) for name, make in {**DONE, **QUESTIONS}.items()},
        **{name: Family(make, "refused") for name, make in {**REFUSED, "again": boundaries.again}.items()},
        **{name: Family(make, "transferred") for name, make in TRANSFERRED.items()},
        "unidentified": Family(boundaries.unidentified, "refused", boundaries.nobody),
    },
    recipes=_recipes(),
    rules=policy.BOOK.rules,
    ruling=ruling,
    attempts=attempts,
)
