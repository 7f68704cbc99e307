"""Who may ask, and when: other people's orders, users that nobody knows, one more change, a user who does not agree."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Identity, Told, Wish, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.changes import exact, in_stock
from slime_tau2.factory.retail.refusals import ACCEPT, refused
from slime_tau2.factory.retail.shop import Order, Shop, User, distinct
from slime_tau2.factory.retail.words import (
    item_words,
    refer,
)
from slime_tau2.factory.rules import Finding


def stranger(case: Case) -> Wish | None:
    """Do something for somebody else, whose order number the user has."""
    shop, rng = Shop(case), case.rng
    people = [owner for owner in rng.sample(list(case.peers), min(12, len(case.peers))) if owner != case.owner]
    orders = [order for owner in people for order in case.db.users[owner].orders]
    if not orders:
        return None
    order: Order = case.db.orders[rng.choice(orders)]
    other: User = case.db.users[order.user_id]
    name = f"{other.name.first_name} {other.name.last_name}"
    who = rng.choice(("your neighbour", "your sister-in-law", "a friend", "a colleague", "your flatmate"))
    asks = {
        "pending": "cancel it, because it is no longer needed",
        "delivered": "return everything in it",
    }.get(order.status, "know where it is and when it will arrive")
    return Wish(
        reason=f"You want to help {name}, {who}, who placed order {order.order_id}: you want to {asks}.",
        instructions=(
            f"You call for yourself and give your own data when asked who you are; you know nothing else about {name}.",
            rng.choice(ACCEPT),
        ),
        calls=(read("get_order_details", order_id=order.order_id),),
        findings=(policy.one_user(shop, order), policy.information(False)),
        outcome="refused",
        topic=f"{order.status} {order.order_id}",
        entities=frozenset({order.order_id, order.user_id}),
    )


def nobody(case: Case) -> Identity:
    """A user who gives neither email nor zip code."""
    user = Shop(case).user
    facts = (
        Fact("your user id", f"Your user id is {user.user_id}.", Told.AT_ONCE),
        Fact("your name", f"You are {user.name.first_name} {user.name.last_name}.", Told.AT_ONCE),
        Fact("the email address of your account", "", Told.FORGOTTEN),
        Fact("the zip code of the address in your account", "", Told.FORGOTTEN),
    )
    return Identity(facts, (), (policy.authenticated(by_email=False, by_name_and_zip=False),))


def unidentified(case: Case) -> Wish | None:
    """Something about an order, without what it takes to find out who the user is."""
    shop, rng = Shop(case), case.rng
    if not shop.orders:
        return None
    order = rng.choice(shop.orders)
    wants = {"pending": "cancel order {}, which you no longer need", "delivered": "return everything from order {}"}
    what = wants.get(order.status, "know the tracking number of order {}").format(order.order_id)
    return Wish(
        reason=f"You want to {what}.",
        instructions=(
            "You are sure that your user id must be enough, and say so once. If it is not, you will look for the email "
            "address and come back another day.",
        ),
        findings=(policy.authenticated(by_email=False, by_name_and_zip=False),),
        outcome="refused",
        topic=f"{order.status} {order.order_id}",
        entities=frozenset({order.order_id}),
    )


def again(case: Case) -> Wish | None:
    """One more thing about an order whose one change has been made. It comes up only afterwards."""
    shop, rng = Shop(case), case.rng
    closed = ("pending (item modified)", "exchange requested", "return requested")
    orders = [order for order in shop.orders if order.status in closed and case.touched(order.order_id)]
    if not orders:
        return None
    order = orders[-1]
    changed = [i for wish in case.wishes for call in wish.writes() for i in call.arguments.get("item_ids", ())]
    changed += [i for wish in case.wishes for call in wish.writes() for i in call.arguments.get("new_item_ids", ())]
    left = [item for item in order.items if item.item_id not in changed]
    if order.status == "pending (item modified)" and (not left or rng.random() < 0.5):
        return _afterwards(
            case,
            order,
            "You want to cancel the whole order that was just changed after all: you no longer need it.",
            (policy.cancel_pending(order), policy.items_last(order)),
            "cancel",
        )
    if not left:
        return None
    item = rng.choice(left)
    name = item_words(item, order.items)
    rules = (policy.once(order),)
    if order.status == "pending (item modified)":
        stock = in_stock(shop.product(item.product_id), item)
        if not stock:
            return None
        target = rng.choice(stock)
        words = f"You want to change {name} in the same order too, to {exact(item, target)}."
        return _afterwards(case, order, words, (*rules, policy.items_last(order)), f"{item.item_id} {target.item_id}")
    words = f"You want to return {name} from the same order as well."
    return _afterwards(case, order, words, (*rules, policy.return_delivered(order)), f"return {item.item_id}")


def _afterwards(case: Case, order: Order, reason: str, findings: tuple[Finding, ...], topic: str) -> Wish:
    return Wish(
        reason=reason,
        instructions=(case.rng.choice(ACCEPT),),
        findings=findings,
        outcome="refused",
        topic=f"{topic} {order.order_id}",
        entities=frozenset({order.order_id}),
        after=True,
    )


def withdrawn(case: Case) -> Wish | None:
    """The user asks for a write and does not agree to it when the agent lists the details."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("pending", "delivered") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    if order.status == "pending":
        reference = refer(shop, order, rng, "cancel")
        reason = f"You want to cancel {reference.words}, because you no longer need it."
        rule, topic, kept = policy.cancel_pending(order), "cancel", "keep the order"
    else:
        item = rng.choice(order.items)
        reference = refer(shop, order, rng, "return something from", about=[item])
        reason = f"You want to return {item_words(item, order.items)}{reference.place('from')}."
        rule, topic, kept = policy.return_delivered(order), f"return {item.item_id}", "keep what you have"
    return refused(
        case,
        reason,
        (policy.one_user(shop, order), rule, policy.confirmed(False)),
        reference=reference,
        order=order,
        topic=topic,
        instructions=(f"When the agent asks you to confirm this, you think again and decide to {kept}: you say no.",),
    )
