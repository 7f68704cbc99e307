"""Return items of delivered orders."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Wish, read, write
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.shop import Item, Order, Shop, distinct, original
from slime_tau2.factory.retail.words import item_words, items_words, method_words, money, refer, tellable
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered

VERBS = ("You want to return", "You want to send back")


def return_items(case: Case) -> Wish | None:
    """Some or all items of a delivered order, the refund to where the policy allows it."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("delivered") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    number = rng.choice((1, 1, 2, 2, 3, len(order.items)))
    picked = sorted(rng.sample(range(len(order.items)), min(number, len(order.items))))
    items = [order.items[n] for n in picked]
    all_of_it = len(items) == len(order.items) and len(items) > 1
    reference = refer(shop, order, rng, "return something from", about=() if all_of_it else items)
    verb = rng.choice(VERBS)
    instructions: list[str] = []
    if all_of_it:
        reason = f"{verb} everything from {reference.words}."
    elif len(order.items) > 2 and len(items) == len(order.items) - 1 and rng.random() < 0.7:
        kept = next(item for item in order.items if item not in items)
        which = refer_to_rest(reference.words, reference.known_by_items, items, order)
        reason = f"{verb} everything but {item_words(kept, order.items)} from {which}."
    elif len(items) > 1 and rng.random() < 0.3:
        reason = f"{verb} {items_words(items[:-1], order.items)}{reference.place('from')}."
        instructions.append(
            "When the agent asks whether there is anything else to return from that order, or asks you to confirm, you "
            f"add {item_words(items[-1], order.items)}."
        )
    else:
        reason = f"{verb} {items_words(items, order.items)}{reference.place('from')}."

    allowed = [m for m in shop.user.payment_methods if policy.return_refund(shop, order, m).holds]
    target = rng.choice(allowed)
    words = method_words(shop, target)
    if target == original(order) and len(shop.user.payment_methods) > 1 and rng.random() < 0.4:
        words = "the payment method that you paid with"
    forbidden = [m for m in shop.user.payment_methods if m not in allowed]
    tried: tuple[Finding, ...] = ()
    refund = f"You want the refund on {words}."
    if forbidden and rng.random() < 0.7:
        wrong = rng.choice(forbidden)
        refund = f"You want the refund on {method_words(shop, wrong)}; if that is not possible, on {words}."
        tried = (policy.return_refund(shop, order, wrong),)
    reads = list(reference.reads)
    if tried or target != original(order):
        reads.append(read("get_user_details", user_id=case.owner))
    amount = round(sum(item.price for item in items), 2)
    tells: tuple[str, ...] = ()
    if tellable(amount) and rng.random() < 0.35:
        instructions.append("You want to know how much you get back in total.")
        tells = (money(amount),)
        if len(items) > 1:
            reads.append(read("calculate", expression=" + ".join(money(item.price) for item in items)))
    return Wish(
        reason=reason,
        about="the return",
        facts=(*reference.facts, remembered(rng, Fact("where the refund goes", refund), at_once=0.35)),
        instructions=tuple(instructions),
        calls=(
            *reads,
            write(
                "return_delivered_order_items",
                any_order=("item_ids",),
                order_id=order.order_id,
                item_ids=[item.item_id for item in items],
                payment_method_id=target,
            ),
        ),
        findings=(
            *policy.own(shop, order),
            policy.return_delivered(order),
            policy.return_items(items, order),
            policy.return_refund(shop, order, target),
            policy.once(order),
        ),
        tried=tried,
        tells=tells,
        entities=frozenset({order.order_id, target}),
    )


def refer_to_rest(words: str, known_by_items: bool, items: Sequence[Item], order: Order) -> str:
    """The order in 'everything but the lamp from …': by an item of it, where its words would leave a doubt."""
    return f"the order with {item_words(items[0], order.items)}" if known_by_items else words
