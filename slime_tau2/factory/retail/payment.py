"""Pay for a pending order in another way; and several changes of one order."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Wish, read, write
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.address import elsewhere
from slime_tau2.factory.retail.items import MODIFY, other_variants
from slime_tau2.factory.retail.shop import Order, Shop, distinct, original, total
from slime_tau2.factory.retail.words import Reference, method_words, refer
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered


def modify_payment(case: Case) -> Wish | None:
    """A pending order is paid in another way."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending") if _able(shop, order)]
    if not orders:
        return None
    order = rng.choice(orders)
    return paid_otherwise(case, shop, order, refer(shop, order, rng, "pay for in another way"))


def _able(shop: Shop, order: Order) -> list[str]:
    """The payment methods that an order can be changed to."""
    return [
        method
        for method in shop.user.payment_methods
        if policy.payment_other(order, method).holds and policy.payment_covered(shop, method, total(order)).holds
    ]


def paid_otherwise(case: Case, shop: Shop, order: Order, reference: Reference) -> Wish | None:
    """The wish that one order is paid in another way.

    Args:
        reference: how the user speaks of the order.
    """
    rng, able = case.rng, _able(shop, order)
    if not able:
        return None
    method = rng.choice(able)
    words = method_words(shop, method)
    cards = [m for m in shop.gift_cards() if m != original(order)]
    short = [card for card in cards if not policy.payment_covered(shop, card, total(order)).holds]
    fact = Fact("how you want to pay", f"You want to pay for that order with {words}.")
    tried: tuple[Finding, ...] = ()
    if short and rng.random() < 0.7:
        card = rng.choice(short)
        fact = Fact(
            "how you want to pay",
            f"You would like to pay for that order with {method_words(shop, card)}; if there is not enough on it, with "
            f"{words}.",
        )
        tried = (policy.payment_covered(shop, card, total(order)),)
    if not tried and rng.random() < 0.5:
        facts = reference.facts
        reason = f"You want to pay for {reference.words} with {words} instead."
    else:
        facts = (*reference.facts, remembered(rng, fact, at_once=0.3))
        reason = f"You want to change the payment method of {reference.words}."
    return Wish(
        reason=reason,
        about="the payment",
        facts=facts,
        calls=(
            *reference.reads,
            read("get_user_details", user_id=case.owner),
            write("modify_pending_order_payment", order_id=order.order_id, payment_method_id=method),
        ),
        findings=(
            *policy.own(shop, order),
            policy.modify_pending(order),
            policy.modify_only("payment"),
            policy.payment_single(1),
            policy.payment_other(order, method),
            policy.payment_covered(shop, method, total(order)),
        ),
        tried=tried,
        entities=frozenset({order.order_id, method, original(order)}),
        sensitive=frozenset(cards),
    )


def rework(case: Case) -> Wish | None:
    """Items and address, or items and payment method, of one pending order: the items have to come last."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    reference = refer(shop, order, rng, "change")
    same = Reference("the same order", (), ())
    if rng.random() < 0.5 and not shop.gift_cards():
        other = paid_otherwise(case, shop, order, same)
    else:
        other = elsewhere(case, shop, order, same)
    items = other_variants(case, shop, order, MODIFY, reference)
    if other is None or items is None:
        return None
    return Wish(
        about="the changes of that order",
        reason=f"{items.reason} {other.reason.replace('You want', 'You also want', 1)}",
        facts=(*items.facts, *other.facts),
        instructions=(*items.instructions, *other.instructions, "You say from the start that you want both."),
        calls=(*(c for c in items.calls if not c.write), *other.calls, *items.writes()),
        findings=(*items.findings, *other.findings),
        tried=(*items.tried, *other.tried),
        tells=items.tells,
        entities=items.entities | other.entities,
        sensitive=items.sensitive | other.sensitive,
    )
