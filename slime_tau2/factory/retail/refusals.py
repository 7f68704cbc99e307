"""What the policy forbids. The user asks for it, is told no, and leaves it at that."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.address import invented
from slime_tau2.factory.retail.changes import exact, in_stock
from slime_tau2.factory.retail.shop import Item, Order, Shop, Variant, distinct, original
from slime_tau2.factory.retail.words import (
    Reference,
    a_product,
    address_words,
    item_words,
    items_words,
    method_words,
    noun,
    refer,
)
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered

ACCEPT = (
    "If the agent says that this cannot be done, accept it and leave everything as it is.",
    "If you are told that it is not possible, insist once, then let it be.",
    "If the agent declines, you are disappointed, but you leave it at that.",
    "You accept no alternative: if it cannot be done, nothing changes.",
)
BAD_REASONS = (
    "you found it cheaper in another shop",
    "it takes too long to arrive",
    "you have spent too much money this month",
    "a friend told you that the quality is bad",
    "you want to order it again later, when there is a sale",
)


def refused(
    case: Case,
    reason: str,
    findings: Sequence[Finding],
    *,
    reference: Reference,
    order: Order,
    topic: str,
    facts: tuple[Fact, ...] = (),
    instructions: tuple[str, ...] | None = None,
    reads: tuple[Call, ...] = (),
    sensitive: frozenset[str] = frozenset(),
) -> Wish:
    """A wish about an order that comes to nothing.

    Args:
        findings: the rules that it touches, one of which at least does not hold.
        topic: what tells it from other wishes about that order.
        instructions: how the user takes it; by chance if None.
        reads: gold calls beside those that find the order.
    """
    return Wish(
        reason=reason,
        facts=(*reference.facts, *facts),
        instructions=instructions or (case.rng.choice(ACCEPT),),
        calls=(*reference.reads, *reads),
        findings=tuple(findings),
        outcome="refused",
        topic=f"{topic} {order.order_id}",
        entities=frozenset({order.order_id}),
        sensitive=sensitive,
    )


def cancel_too_late(case: Case) -> Wish | None:
    """Cancel an order that is processed, delivered or cancelled already."""
    shop, rng = Shop(case), case.rng
    orders = shop.with_status("processed", "delivered")
    if not orders:
        return None
    order = rng.choice(orders)
    reference = refer(shop, order, rng, "cancel")
    return refused(
        case,
        f"You want to cancel {reference.words}, because you no longer need it.",
        (policy.one_user(shop, order), policy.cancel_pending(order), policy.cancel_reason("no longer needed")),
        reference=reference,
        order=order,
        topic="cancel",
    )


def cancel_bad_reason(case: Case) -> Wish | None:
    """Cancel for a reason that is not one of the two."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order, why = rng.choice(pending), rng.choice(BAD_REASONS)
    reference = refer(shop, order, rng, "cancel")
    return refused(
        case,
        f"You want to cancel {reference.words}.",
        (policy.one_user(shop, order), policy.cancel_pending(order), policy.cancel_reason(why)),
        reference=reference,
        order=order,
        facts=(Fact("why you cancel", f"Why you cancel: {why}.", Told.ASKED),),
        topic=f"cancel, {why}",
        instructions=(
            "That is your only reason, and you are honest about it: you name no other, and you agree to none that the "
            "agent suggests. If it is not accepted, you keep the order.",
        ),
    )


def cancel_other_refund(case: Case) -> Wish | None:
    """Cancel, but only if the refund goes elsewhere."""
    shop, rng = Shop(case), case.rng
    orders = [o for o in shop.with_status("pending") if len(shop.user.payment_methods) > 1]
    if not orders:
        return None
    order = rng.choice(orders)
    method = rng.choice([m for m in shop.user.payment_methods if m != original(order)])
    reference = refer(shop, order, rng, "cancel")
    return refused(
        case,
        f"You want to cancel {reference.words}, which you no longer need, and have the refund on "
        f"{method_words(shop, method)}.",
        (
            policy.one_user(shop, order),
            policy.cancel_pending(order),
            policy.cancel_whole(order.items, order, method),
        ),
        reference=reference,
        order=order,
        topic=f"cancel, refund to {method}",
        instructions=("If the refund cannot go there, you do not want to cancel at all, and you say so.",),
    )


def partial_cancel(case: Case) -> Wish | None:
    """Cancel one item of a pending order, or else nothing."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending") if len(order.items) > 1 and distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    item = rng.choice(order.items)
    reference = refer(shop, order, rng, "change", about=[item])
    return refused(
        case,
        f"You want to cancel only {item_words(item, order.items)}{reference.place('in')}; the rest of the order is to "
        "be sent as it is.",
        (policy.one_user(shop, order), policy.modify_only("fewer items"), policy.cancel_pending(order)),
        reference=reference,
        order=order,
        topic=f"without {item.item_id}",
        instructions=("If that is not possible, you keep the order as it is; you do not want to cancel all of it.",),
    )


def add_item(case: Case) -> Wish | None:
    """Add a product to a pending order."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order = rng.choice(pending)
    there = {item.product_id for item in order.items}
    product = rng.choice([p for p in case.db.products.values() if p.product_id not in there])
    reference = refer(shop, order, rng, "change")
    return refused(
        case,
        f"You want to have the {noun(product.name)} added to {reference.words}, so that all comes together.",
        (policy.one_user(shop, order), policy.modify_pending(order), policy.modify_only("more items")),
        reference=reference,
        order=order,
        topic=f"with {product.product_id}",
    )


def modify_too_late(case: Case) -> Wish | None:
    """Another variant or address for an order that has left the warehouse."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("processed") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    if rng.random() < 0.4:
        reference = refer(shop, order, rng, "send elsewhere")
        address = address_words(invented(rng))
        return refused(
            case,
            f"You want to have {reference.words} sent to another address.",
            (policy.one_user(shop, order), policy.modify_pending(order), policy.modify_only("address")),
            reference=reference,
            order=order,
            facts=(remembered(rng, Fact("the new address", f"The new address for that order is {address}.")),),
            topic="address",
        )
    found = _another(shop, order)
    if found is None:
        return None
    item, variant = found
    reference = refer(shop, order, rng, "change", about=[item])
    verb, preposition = rng.choice((("change", "to"), ("exchange", "for")))
    status = policy.modify_pending(order) if verb == "change" else policy.exchange_delivered(order)
    return refused(
        case,
        f"You want to {verb} {item_words(item, order.items)}{reference.place('in')} {preposition} "
        f"{exact(item, variant)}.",
        (policy.one_user(shop, order), status),
        reference=reference,
        order=order,
        topic=f"{item.item_id} to {variant.item_id}",
    )


def _another(shop: Shop, order: Order, *, available: bool = True) -> tuple[Item, Variant] | None:
    """An item of the order, and another variant of it that is available, or is not."""
    rng = shop.case.rng
    item = rng.choice(order.items)
    product = shop.product(item.product_id)
    gone = [v for v in product.variants.values() if not v.available and v.item_id != item.item_id]
    variants = in_stock(product, item) if available else gone
    return (item, rng.choice(variants)) if variants else None


def return_too_early(case: Case) -> Wish | None:
    """Return what has not been delivered, and nothing else will do."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("processed", "pending") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    number = min(len(order.items), rng.choice((1, 1, 2)))
    items = [order.items[n] for n in sorted(rng.sample(range(len(order.items)), number))]
    reference = refer(shop, order, rng, "return something from", about=items)
    return refused(
        case,
        f"You want to return {items_words(items, order.items)}{reference.place('from')}.",
        (policy.one_user(shop, order), policy.return_delivered(order)),
        reference=reference,
        order=order,
        topic=f"return {[item.item_id for item in items]}",
        instructions=("If it cannot be returned now, you wait until it is there; you do not want to cancel anything.",),
    )


def return_other_refund(case: Case) -> Wish | None:
    """Return, but only if the refund goes to a method that the policy does not allow."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("delivered") if distinct(order) and _forbidden(shop, order)]
    if not orders:
        return None
    order = rng.choice(orders)
    method = rng.choice(_forbidden(shop, order))
    item = rng.choice(order.items)
    reference = refer(shop, order, rng, "return something from", about=[item])
    return refused(
        case,
        f"You want to return {item_words(item, order.items)}{reference.place('from')} and have the refund on "
        f"{method_words(shop, method)}.",
        (policy.one_user(shop, order), policy.return_delivered(order), policy.return_refund(shop, order, method)),
        reference=reference,
        order=order,
        topic=f"return {item.item_id} to {method}",
        instructions=("If the refund cannot go there, you would rather keep it than get the money in another way.",),
    )


def _forbidden(shop: Shop, order: Order) -> list[str]:
    return [m for m in shop.user.payment_methods if not policy.return_refund(shop, order, m).holds]


def other_product(case: Case) -> Wish | None:
    """Change or exchange an item for something else altogether."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending", "delivered") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    item = rng.choice(order.items)
    product = rng.choice([p for p in case.db.products.values() if p.product_id != item.product_id])
    reference = refer(shop, order, rng, "change", about=[item])
    pair = [(item.product_id, product.product_id)]
    if order.status == "pending":
        words, rule = ("change", "to", "in"), policy.items_same_product(pair)
    else:
        words, rule = ("exchange", "for", "from"), policy.exchange_same_product(pair)
    verb, preposition, place = words
    return refused(
        case,
        f"You want to {verb} {item_words(item, order.items)}{reference.place(place)} {preposition} "
        f"{a_product(product)}.",
        (policy.one_user(shop, order), rule),
        reference=reference,
        order=order,
        topic=f"{item.item_id} to {product.product_id}",
    )


def unavailable(case: Case) -> Wish | None:
    """Change or exchange an item for a variant that is sold out, and no other will do."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending", "delivered") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    found = _another(shop, order, available=False)
    if found is None:
        return None
    item, variant = found
    reference = refer(shop, order, rng, "change", about=[item])
    if order.status == "pending":
        words, rule = ("change", "to", "in"), policy.items_available([found])
    else:
        words, rule = ("exchange", "for", "from"), policy.exchange_available([found])
    verb, preposition, place = words
    return refused(
        case,
        f"You want to {verb} {item_words(item, order.items)}{reference.place(place)} {preposition} "
        f"{exact(item, variant)}.",
        (policy.one_user(shop, order), rule),
        reference=reference,
        order=order,
        topic=f"{item.item_id} to {variant.item_id}",
        instructions=("If that is not available, you keep what you have: no other one will do.",),
        reads=(read("get_product_details", product_id=item.product_id),),
    )


def not_in_order(case: Case) -> Wish | None:
    """Return something from an order in which it is not."""
    shop, rng = Shop(case), case.rng
    delivered = shop.with_status("delivered")
    mine = {item.product_id for order in shop.orders for item in order.items}
    items = [item for owner in case.peers[:40] for o in case.db.users[owner].orders for item in case.db.orders[o].items]
    foreign = [item for item in items if item.product_id not in mine]
    if not delivered or not foreign:
        return None
    order, item = rng.choice(delivered), rng.choice(foreign)
    reference = Reference(f"order {order.order_id}", (), (read("get_order_details", order_id=order.order_id),))
    return refused(
        case,
        f"You want to return the {noun(item.name)} from {reference.words}.",
        (policy.one_user(shop, order), policy.return_delivered(order), policy.return_items([item], order)),
        reference=reference,
        order=order,
        topic=f"return {item.product_id}",
        instructions=("If it was not in that order, you must have bought it elsewhere: you return nothing.",),
    )
