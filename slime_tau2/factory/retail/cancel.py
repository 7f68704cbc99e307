"""Cancel pending orders."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read, write
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.shop import Order, Shop, original, total
from slime_tau2.factory.retail.words import (
    Reference,
    item_words,
    method_words,
    money,
    refer,
    search,
    tellable,
    them,
)
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered

WHY = {
    "no longer needed": (
        "it is no longer needed",
        "your plans have changed and it is no longer needed",
        "what is in it is no longer needed",
    ),
    "ordered by mistake": (
        "it was ordered by mistake",
        "it was ordered by mistake, nobody had meant to",
        "you see now that it was ordered by mistake",
    ),
}


def reason_fact(case: Case, reason: str) -> Fact:
    """Why the user cancels, in words that leave no doubt which of the two accepted reasons it is."""
    words = case.rng.choice(WHY[reason])
    return remembered(case.rng, Fact("why you cancel", f"Why you cancel: {words}."), at_once=0.35)


def cancelling(order: Order, reason: str) -> Call:
    """The write."""
    return write("cancel_pending_order", order_id=order.order_id, reason=reason)


def findings(shop: Shop, order: Order, reason: str) -> tuple[Finding, ...]:
    """The rules of a cancellation."""
    return (
        *policy.own(shop, order),
        policy.cancel_pending(order),
        policy.cancel_reason(reason),
        policy.cancel_whole(order.items, order, original(order)),
    )


def cancel(case: Case) -> Wish | None:
    """One pending order. Now and then the user asks what comes back, or would rather have it on a gift card."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order, reason = rng.choice(pending), rng.choice(policy.CANCEL_REASONS)
    reference = refer(shop, order, rng, "cancel")
    reads = list(reference.reads)
    instructions: list[str] = []
    tells: tuple[str, ...] = ()
    tried: tuple[Finding, ...] = ()
    others = [card for card in shop.gift_cards() if card != original(order)]
    if others and rng.random() < 0.4:
        card = rng.choice(others)
        instructions.append(
            f"You ask for the refund on {method_words(shop, card)}. If that is not possible, you still want to cancel."
        )
        tried = (policy.cancel_whole(order.items, order, card),)
        reads.append(read("get_user_details", user_id=case.owner))
    elif tellable(total(order)) and rng.random() < 0.3:
        instructions.append("You want to know how much money you get back.")
        tells = (money(total(order)),)
    return Wish(
        reason=f"You want to cancel {reference.words}.",
        about="the cancellation",
        facts=(*reference.facts, reason_fact(case, reason)),
        instructions=tuple(instructions),
        calls=(*reads, cancelling(order, reason)),
        findings=findings(shop, order, reason),
        tried=tried,
        tells=tells,
        entities=frozenset({order.order_id, original(order)}),
    )


def cancel_all(case: Case) -> Wish | None:
    """All pending orders, whose numbers the user has not at hand."""
    shop, rng = Shop(case), case.rng
    pending = [order for order in shop.orders if order.status == "pending"]
    if len(pending) < 2 or any(map(case.touched, shop.user.orders)):
        return None
    reason = rng.choice(policy.CANCEL_REASONS)
    why = {"no longer needed": "they are no longer needed", "ordered by mistake": "they were ordered by mistake"}[
        reason
    ]
    amount = round(sum(total(order) for order in pending), 2)
    ask = rng.random() < 0.4 and tellable(amount)
    return Wish(
        reason=rng.choice(
            (
                "You want to cancel all your orders that are still pending.",
                "You want to cancel every order of yours that can still be cancelled.",
            )
        ),
        facts=(
            Fact("the order numbers", "", Told.FORGOTTEN),
            remembered(rng, Fact("why you cancel", f"Why you cancel: {why}."), at_once=0.4),
        ),
        instructions=("You want to know how much you get back for all of them together.",) if ask else (),
        calls=(
            *search(shop, shop.orders[-1]),
            *((read("calculate", expression=" + ".join(money(total(o)) for o in pending)),) if ask else ()),
            *(cancelling(order, reason) for order in pending),
        ),
        findings=tuple(finding for order in pending for finding in findings(shop, order, reason)),
        tells=(money(amount),) if ask else (),
        entities=frozenset(entity for order in pending for entity in (order.order_id, original(order))),
    )


def return_else_cancel(case: Case) -> Wish | None:
    """The user wants to return something that is still pending, and cancels the whole order instead."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order = rng.choice(pending)
    items = [rng.choice(order.items)]
    reference = refer(shop, order, rng, "return something from", about=items)
    reason = "no longer needed"
    return Wish(
        reason=f"You want to return {item_words(items[0], order.items)}{reference.place('from')}.",
        facts=(*reference.facts, reason_fact(case, reason)),
        instructions=(
            "If the agent says that it cannot be returned because the order has not been delivered, you ask to cancel "
            "the whole order.",
        ),
        calls=(*reference.reads, cancelling(order, reason)),
        findings=findings(shop, order, reason),
        tried=(policy.return_delivered(order),),
        entities=frozenset({order.order_id, original(order)}),
    )


def remove_else_cancel(case: Case) -> Wish | None:
    """The user wants one item out of a pending order, and cancels the whole order instead."""
    shop, rng = Shop(case), case.rng
    pending = [order for order in shop.with_status("pending") if len(order.items) > 1]
    if not pending:
        return None
    order, reason = rng.choice(pending), rng.choice(policy.CANCEL_REASONS)
    items = [rng.choice(order.items)]
    reference = refer(shop, order, rng, "change", about=items)
    return Wish(
        reason=_removal(items[0].name, item_words(items[0], order.items), reference, rng.random() < 0.5),
        facts=(*reference.facts, reason_fact(case, reason)),
        instructions=(f"If the agent cannot take {them(items)} out of the order, you want the whole order cancelled.",),
        calls=(*reference.reads, cancelling(order, reason)),
        findings=findings(shop, order, reason),
        tried=(policy.modify_only("fewer items"), policy.cancel_whole(items, order, original(order))),
        entities=frozenset({order.order_id, original(order)}),
    )


def _removal(name: str, words: str, reference: Reference, cancel_word: bool) -> str:
    if cancel_word:
        return f"You want to cancel only {words}{reference.place('in')} and keep the rest."
    return f"You want to have {words} taken out of {'your order' if reference.known_by_items else reference.words}."


def cancel_else_return(case: Case) -> Wish | None:
    """The user wants to cancel an order that has been delivered, and returns everything in it instead."""
    shop, rng = Shop(case), case.rng
    delivered = shop.with_status("delivered")
    if not delivered:
        return None
    order = rng.choice(delivered)
    reference = refer(shop, order, rng, "cancel")
    targets = [m for m in shop.user.payment_methods if m == original(order) or m in shop.gift_cards()]
    target = rng.choice(targets)
    refund = Fact("where the refund goes", f"You want the refund on {method_words(shop, target)}.")
    reads = [*reference.reads]
    if target != original(order):
        reads.append(read("get_user_details", user_id=case.owner))
    return Wish(
        reason=f"You want to cancel {reference.words}.",
        facts=(*reference.facts, remembered(rng, refund, at_once=0.2)),
        instructions=("If it is too late to cancel, you want to return everything in that order.",),
        calls=(
            *reads,
            write(
                "return_delivered_order_items",
                any_order=("item_ids",),
                order_id=order.order_id,
                item_ids=[item.item_id for item in order.items],
                payment_method_id=target,
            ),
        ),
        findings=(
            *policy.own(shop, order),
            policy.return_delivered(order),
            policy.return_items(order.items, order),
            policy.return_refund(shop, order, target),
            policy.once(order),
        ),
        tried=(policy.cancel_pending(order),),
        entities=frozenset({order.order_id, target}),
    )
