"""The scripted retail agent's answers to questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Wish
from slime_tau2.factory.retail.clerk import LOCATING, Clerk, contents, described
from slime_tau2.factory.retail.shop import Item, Order, Product, Variant
from slime_tau2.factory.retail.words import items_words, money, noun


def answer(clerk: Clerk, wish: Wish) -> Script[None]:
    """Look up what is needed, and say the answer with whatever is said next."""
    order: Order | None = None
    if any(call.name == "get_order_details" for call in wish.calls) and wish.family != "spent":
        order = yield from clerk.locate(wish, quiet=True)
    yield from clerk.look_all(wish.calls)
    if wish.family == "price_of_variant" and order is not None:
        item, variant = _compared(clerk, wish, order)
        yield from clerk.calculate(f"{money(variant.price)} - {money(item.price)}")
    clerk.note(WORDS[wish.family](clerk, wish, order))
    clerk.helped = True


def _product(clerk: Clerk, wish: Wish) -> Product:
    calls = [call for call in wish.calls if call.name == "get_product_details"]
    return clerk.products[calls[-1].arguments["product_id"]]


def _compared(clerk: Clerk, wish: Wish, order: Order) -> tuple[Item, Variant]:
    """An item of an order, and the other variant that the user asks about."""
    _, item_id, variant_id = wish.topic.split()
    item = next(item for item in order.items if item.item_id == item_id)
    return item, clerk.products[item.product_id].variants[variant_id]


def variant_number(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """The item number of the cheapest or the dearest variant."""
    product, number = _product(clerk, wish), wish.tells[0]
    found, word = product.variants[number], "cheapest" if "cheapest" in wish.topic else "most expensive"
    return clerk.pick(
        f"The {word} {noun(product.name)} in stock has the item number {number} ({described(found.options)}).",
        f"The item number is {number}: that is the {word} available {noun(product.name)}.",
        f"It's item {number}, {described(found.options)}.",
    )


def price(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """The cheapest or the dearest variant."""
    product = _product(clerk, wish)
    available = [variant for variant in product.variants.values() if variant.available]
    word = "cheapest" if "cheapest" in wish.reason else "most expensive"
    found: Variant = (min if word == "cheapest" else max)(available, key=lambda variant: variant.price)
    return clerk.pick(
        f"The {word} {noun(product.name)} in stock costs ${money(found.price)} ({described(found.options)}).",
        f"It's ${money(found.price)} for the {word} available {noun(product.name)} ({described(found.options)}).",
    )


def item_number(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """What an item costs by its number."""
    return clerk.pick(
        f"Item {wish.topic} costs ${wish.tells[0]}.",
        f"The price of the item with the number {wish.topic} is ${wish.tells[0]}.",
    )


def price_of_variant(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """How two variants compare."""
    assert order is not None
    item, variant = _compared(clerk, wish, order)
    more = "more" if variant.price > item.price else "less"
    return clerk.pick(
        f"That {noun(item.name)} ({described(variant.options)}) costs ${money(variant.price)}, and you paid "
        f"${money(item.price)} for yours in order {order.order_id}: it is ${wish.tells[0]} {more}.",
        f"They differ by ${wish.tells[0]}: yours in order {order.order_id} was ${money(item.price)}, the other one is "
        f"${money(variant.price)}.",
    )


def order_total(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """What an order cost."""
    assert order is not None
    return clerk.pick(
        f"You paid ${wish.tells[0]} in total for order {order.order_id} ({contents(order)}).",
        f"The total of order {order.order_id} is ${wish.tells[0]}.",
    )


def tracking(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """A shipment's tracking number."""
    assert order is not None
    return clerk.pick(
        f"The tracking number of order {order.order_id} is {wish.tells[0]}.",
        f"Order {order.order_id} has the tracking number {wish.tells[0]}.",
    )


def status(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """How far an order is."""
    assert order is not None
    return clerk.pick(
        f'The status of order {order.order_id} is "{order.status}".',
        f"Order {order.order_id} ({contents(order)}) is {order.status}.",
    )


def refund(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """What a return would bring."""
    assert order is not None
    items = [item for item in order.items if item.item_id in wish.topic]
    return clerk.pick(
        f"You would get ${wish.tells[0]} back for {items_words(items, order.items)} from order {order.order_id}.",
        f"If you returned {items_words(items, order.items)}, the refund would be ${wish.tells[0]}.",
    )


def spent(clerk: Clerk, wish: Wish, order: Order | None) -> str:
    """What the delivered orders cost together."""
    numbers = [call.arguments["order_id"] for call in wish.calls if call.name == LOCATING[1]]
    delivered = [number for number in numbers if clerk.orders[number].status == "delivered"]
    return clerk.pick(
        f"Your {len(delivered)} delivered orders ({', '.join(delivered)}) cost ${wish.tells[0]} all together.",
        f"For your delivered orders, {', '.join(delivered)}, you paid ${wish.tells[0]} in total.",
    )


WORDS: Mapping[str, Callable[[Clerk, Wish, Order | None], str]] = {
    "variant_number": variant_number,
    "price": price,
    "item_number": item_number,
    "price_of_variant": price_of_variant,
    "order_total": order_total,
    "tracking": tracking,
    "status": status,
    "refund": refund,
    "spent": spent,
}
