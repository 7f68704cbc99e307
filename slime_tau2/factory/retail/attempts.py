"""Writes that nobody asks for in a retail task: what check 8 makes beside gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, write
from slime_tau2.factory.retail.changes import in_stock
from slime_tau2.factory.retail.shop import Item, Order, Shop, original

ELSEWHERE: dict[str, Any] = {
    "address1": "1 Nowhere Road",
    "address2": "",
    "city": "Austin",
    "state": "TX",
    "country": "USA",
    "zip": "78701",
}


def attempts(case: Case) -> Iterator[tuple[Call, ...]]:
    """For each order of the owner and one of somebody else, what its status lets the tools do; both addresses."""
    shop = Shop(case)
    strangers = (o for o in case.db.orders.values() if o.user_id != case.owner and o.status in ("pending", "delivered"))
    stranger: Order | None = next(strangers, None)
    for order in (*shop.orders, *([stranger] if stranger else ())):
        for call in _on_order(shop, order):
            yield (call,)
    for user_id in dict.fromkeys((case.owner, stranger.user_id if stranger else case.owner)):
        yield (write("modify_user_address", user_id=user_id, **ELSEWHERE),)


def _on_order(shop: Shop, order: Order) -> Iterator[Call]:
    ids: dict[str, Any] = {"order_id": order.order_id}
    item = order.items[0]
    methods = list(shop.db.users[order.user_id].payment_methods)
    if order.status == "pending":
        yield write("cancel_pending_order", **ids, reason="no longer needed")
        yield write("modify_pending_order_address", **ids, **ELSEWHERE)
        for method in methods:
            if method != original(order):
                yield write("modify_pending_order_payment", **ids, payment_method_id=method)
        yield from _swapped(shop, "modify_pending_order_items", ids, item, original(order))
    elif order.status == "delivered":
        for method in methods:
            yield write("return_delivered_order_items", **ids, item_ids=[item.item_id], payment_method_id=method)
        yield from _swapped(shop, "exchange_delivered_order_items", ids, item, original(order))


def _swapped(shop: Shop, tool: str, ids: Mapping[str, Any], item: Item, method: str) -> Iterator[Call]:
    """One item for another variant of its product, and for one of another product."""
    products = [shop.product(item.product_id), *shop.db.products.values()]
    for product in (products[0], next(p for p in products if p.product_id != item.product_id)):
        if variants := in_stock(product, item):
            new = [variants[0].item_id]
            yield write(tool, **ids, item_ids=[item.item_id], new_item_ids=new, payment_method_id=method)
