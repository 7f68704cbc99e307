"""Payment methods that the policy forbids."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Wish, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.refusals import refused
from slime_tau2.factory.retail.shop import Shop, original, total
from slime_tau2.factory.retail.words import (
    method_words,
    refer,
)


def payment_short(case: Case) -> Wish | None:
    """Pay for a pending order with a gift card that does not cover it."""
    shop, rng = Shop(case), case.rng
    options = [
        (order, card)
        for order in shop.with_status("pending")
        for card in shop.gift_cards()
        if card != original(order) and not policy.payment_covered(shop, card, total(order)).holds
    ]
    if not options:
        return None
    order, card = rng.choice(options)
    reference = refer(shop, order, rng, "pay for in another way")
    return refused(
        case,
        f"You want to pay for {reference.words} with {method_words(shop, card)} instead.",
        (
            policy.one_user(shop, order),
            policy.modify_pending(order),
            policy.payment_other(order, card),
            policy.payment_covered(shop, card, total(order)),
        ),
        reference=reference,
        order=order,
        topic=f"pay with {card}",
        instructions=("If that is not possible, everything stays as it is: no other payment method will do.",),
        reads=(read("get_user_details", user_id=case.owner),),
        sensitive=frozenset({card}),
    )


def payment_split(case: Case) -> Wish | None:
    """Pay for a pending order with two payment methods."""
    shop, rng = Shop(case), case.rng
    pending = [order for order in shop.with_status("pending") if len(shop.user.payment_methods) > 1]
    if not pending:
        return None
    order = rng.choice(pending)
    other = rng.choice([m for m in shop.user.payment_methods if m != original(order)])
    reference = refer(shop, order, rng, "pay for in another way")
    return refused(
        case,
        f"You want to split the payment of {reference.words}: half of it with {method_words(shop, original(order))}, "
        f"half with {method_words(shop, other)}.",
        (policy.one_user(shop, order), policy.modify_pending(order), policy.payment_single(2)),
        reference=reference,
        order=order,
        topic=f"split with {other}",
        instructions=("If it cannot be split, you leave the payment as it is.",),
    )


def payment_same(case: Case) -> Wish | None:
    """Pay for a pending order with what it was paid with already."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order = rng.choice(pending)
    reference = refer(shop, order, rng, "pay for in another way")
    return refused(
        case,
        f"You want to have the payment of {reference.words} moved to {method_words(shop, original(order))}.",
        (policy.one_user(shop, order), policy.modify_pending(order), policy.payment_other(order, original(order))),
        reference=reference,
        order=order,
        topic="pay with the same",
        instructions=("If it is paid that way already, all is well and you leave it so: you want no other method.",),
    )
