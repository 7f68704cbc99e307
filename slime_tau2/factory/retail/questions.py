"""Questions with one answer, which the user must be told."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.changes import exact, in_stock
from slime_tau2.factory.retail.shop import Order, Product, Shop, Variant, distinct, total
from slime_tau2.factory.retail.words import (
    item_words,
    items_words,
    money,
    noun,
    plural,
    refer,
    search,
    tellable,
)


def variant_number(case: Case) -> Wish | None:
    """Which item number the cheapest or the dearest variant of a product has."""
    product: Product = case.rng.choice(list(case.db.products.values()))
    pick, word = case.rng.choice(((min, "cheapest"), (max, "most expensive")))
    prices = [variant.price for variant in _available(product)]
    if not prices or prices.count(pick(prices)) > 1:
        return None
    (found,) = (variant for variant in _available(product) if variant.price == pick(prices))
    ones = noun(product.name)
    reason = case.rng.choice(
        (
            f"You want to know the item number of the {word} {ones} in stock.",
            f"You want to have the item number of the {word} {ones} that can be ordered right now. You only ask.",
            f"You want to look at the {word} available {ones} on the website, and need its item number for that.",
        )
    )
    return _answered(reason, _look_up(product), (found.item_id,), topic=f"number of the {word} {product.product_id}")


def price(case: Case) -> Wish | None:
    """What the cheapest or the dearest variant of a product costs."""
    product: Product = case.rng.choice(list(case.db.products.values()))
    pick, word = case.rng.choice(((min, "cheapest"), (max, "most expensive")))
    prices = [variant.price for variant in _available(product)]
    if not prices or not tellable(pick(prices)):
        return None
    ones = noun(product.name)
    reason = f"You want to know the price of the {word} {ones} in stock."
    if plural(product.name):
        reason = f"You want to know what the {word} {ones} in stock cost."
    return _answered(reason, _look_up(product), (money(pick(prices)),), topic=f"{word} {product.product_id}")


def item_number(case: Case) -> Wish | None:
    """What the variant with a certain item number costs. The tool that looks up items by number is in v1.0.x alone."""
    product: Product = case.rng.choice(list(case.db.products.values()))
    variants = [variant for variant in product.variants.values() if tellable(variant.price)]
    if not variants:
        return None
    item_id = case.rng.choice(variants).item_id
    by_number = (read("get_item_details", item_id=item_id),)
    direct = "get_item_details" in case.world.grader.tool_types
    return _answered(
        f"You want to know the price of the {noun(product.name)} with the item number {item_id}.",
        by_number if direct else _look_up(product),
        (money(product.variants[item_id].price),),
        topic=item_id,
    )


def price_of_variant(case: Case) -> Wish | None:
    """How much more or less another variant of an item costs; the item stays as it is."""
    shop, rng = Shop(case), case.rng
    orders = [o for o in shop.with_status("pending", "delivered") if distinct(o)]
    if not orders:
        return None
    order = rng.choice(orders)
    item = rng.choice(order.items)
    variants = [
        v for v in in_stock(shop.product(item.product_id), item) if tellable(abs(round(v.price - item.price, 2)))
    ]
    if not variants:
        return None
    variant = rng.choice(variants)
    reference = refer(shop, order, rng, "ask about", about=[item])
    name = item_words(item, order.items)
    return Wish(
        reason=f"You want to know how the price of {name}{reference.place('in')} compares with that of "
        f"{exact(item, variant)}: by how many dollars and cents do they differ? You only ask: nothing is to change.",
        facts=reference.facts,
        calls=(*reference.reads, read("get_product_details", product_id=item.product_id)),
        findings=(policy.information(True), policy.one_user(shop, order)),
        tells=(money(abs(variant.price - item.price)),),
        topic=f"{order.order_id} {item.item_id} {variant.item_id}",
        entities=frozenset({order.order_id}),
    )


def order_total(case: Case) -> Wish | None:
    """What an order cost."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in _quiet(shop) if tellable(total(order))]
    if not orders:
        return None
    order = rng.choice(orders)
    return _about_order(shop, order, "You want to know how much you paid for {} in total.", money(total(order)))


def tracking(case: Case) -> Wish | None:
    """The tracking number of a shipment."""
    shop = Shop(case)
    orders = [
        order for order in _quiet(shop) if len(order.fulfillments) == 1 and len(order.fulfillments[0].tracking_id) == 1
    ]
    if not orders:
        return None
    order = case.rng.choice(orders)
    return _about_order(
        shop, order, "You want to know the tracking number of {}.", order.fulfillments[0].tracking_id[0]
    )


def status(case: Case) -> Wish | None:
    """How far an order is."""
    shop = Shop(case)
    orders = _quiet(shop)
    if not orders:
        return None
    order = case.rng.choice(orders)
    return _about_order(shop, order, "You want to know the status of {}.", order.status)


def refund(case: Case) -> Wish | None:
    """What a return would bring; nothing is returned."""
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status("delivered") if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    number = min(len(order.items), rng.choice((1, 2, 2, 3)))
    items = [order.items[n] for n in sorted(rng.sample(range(len(order.items)), number))]
    amount = round(sum(item.price for item in items), 2)
    if not tellable(amount):
        return None
    reference = refer(shop, order, rng, "ask about", about=items)
    calculate = (read("calculate", expression=" + ".join(money(i.price) for i in items)),) if len(items) > 1 else ()
    return Wish(
        reason=f"You want to know how much you would get back for {items_words(items, order.items)}"
        f"{reference.place('in')} if you returned {'them' if len(items) > 1 else 'that'}. You only ask: you keep "
        "everything.",
        facts=reference.facts,
        calls=(*reference.reads, *calculate),
        findings=(policy.information(True), policy.one_user(shop, order)),
        tells=(money(amount),),
        topic=f"{order.order_id} {[item.item_id for item in items]}",
        entities=frozenset({order.order_id}),
    )


def spent(case: Case) -> Wish | None:
    """What the user's delivered orders cost together."""
    shop, rng = Shop(case), case.rng
    delivered = [order for order in shop.orders if order.status == "delivered"]
    amount = round(sum(total(order) for order in delivered), 2)
    if len(delivered) < 2 or not tellable(amount) or any(map(case.touched, shop.user.orders)):
        return None
    reason = rng.choice(
        (
            "You want to know how much your delivered orders cost all together.",
            "You want to know the sum of what you paid for those of your orders that have been delivered.",
        )
    )
    return Wish(
        reason=reason,
        facts=(Fact("the order numbers", "", Told.FORGOTTEN),),
        calls=(
            *search(shop, shop.orders[-1]),
            read("calculate", expression=" + ".join(money(total(order)) for order in delivered)),
        ),
        findings=(policy.information(True), *(policy.one_user(shop, order) for order in delivered)),
        tells=(money(amount),),
        topic="spent",
        sensitive=frozenset(order.order_id for order in delivered),
    )


def _quiet(shop: Shop) -> list[Order]:
    """Orders that no earlier wish is about: their answers are those of the database."""
    return [order for order in shop.orders if not shop.case.touched(order.order_id)]


def _about_order(shop: Shop, order: Order, sentence: str, answer: str) -> Wish:
    reference = refer(shop, order, shop.case.rng, "ask about")
    return Wish(
        reason=sentence.format(reference.words),
        facts=reference.facts,
        calls=reference.reads,
        findings=(policy.information(True), policy.one_user(shop, order)),
        tells=(answer,),
        topic=f"{sentence} {order.order_id}",
        entities=frozenset({order.order_id}),
    )


def _answered(reason: str, calls: Sequence[Call], tells: tuple[str, ...], topic: str) -> Wish:
    return Wish(reason=reason, calls=tuple(calls), findings=(policy.information(True),), tells=tells, topic=topic)


def _look_up(product: Product) -> tuple[Call, ...]:
    """The gold calls that find a product that is in none of the user's orders."""
    return read("list_all_product_types"), read("get_product_details", product_id=product.product_id)


def _available(product: Product) -> list[Variant]:
    return [variant for variant in product.variants.values() if variant.available]
