"""Retail's rules on a write of a finished task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slime_tau2.factory.case import Write
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.items import EXCHANGE, MODIFY, Kind
from slime_tau2.factory.retail.shop import Item, Order, Shop, Variant, total
from slime_tau2.factory.rules import Finding

KINDS = {kind.tool: kind for kind in (MODIFY, EXCHANGE)}


def ruling(write: Write) -> Iterator[Finding]:
    """What the database before a write, the write and the scenario decide."""
    tool, arguments = write.call.name, write.call.arguments
    owner = write.begun.db.users.get(write.case.owner)
    if owner is None:
        yield policy.authenticated(by_email=False, by_name_and_zip=False)
        return
    parts = (owner.name.first_name, owner.name.last_name, owner.address.zip)
    yield policy.authenticated(
        by_email=owner.email in write.story, by_name_and_zip=all(part in write.story for part in parts)
    )
    shop = Shop(write.case)
    if tool == "modify_user_address":
        yield policy.one_user(shop, shop.db.users[arguments["user_id"]])
        return
    order: Order = shop.db.orders[arguments["order_id"]]
    yield policy.one_user(shop, order)
    if order.user_id != shop.user.user_id:
        return  # the other rules are about what the user has
    if tool == "cancel_pending_order":
        yield policy.cancel_pending(order)
        yield policy.cancel_reason(arguments["reason"])
    elif tool == "modify_pending_order_address":
        yield policy.modify_pending(order)
    elif tool == "modify_pending_order_payment":
        yield policy.modify_pending(order)
        yield policy.payment_other(order, arguments["payment_method_id"])
        yield policy.payment_covered(shop, arguments["payment_method_id"], total(order))
    elif tool == "return_delivered_order_items":
        yield policy.return_delivered(order)
        yield policy.return_items(_items(order, arguments["item_ids"]), order)
        yield policy.return_refund(shop, order, arguments["payment_method_id"])
    elif tool in KINDS:
        yield from _other_variants(shop, order, KINDS[tool], arguments)


def _items(order: Order, ids: list[str]) -> list[Item]:
    return [item for item_id in ids for item in order.items if item.item_id == item_id]


def _other_variants(shop: Shop, order: Order, kind: Kind, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    """Of items that are changed or exchanged, all in one call."""
    old = [next(item for item in order.items if item.item_id == item_id) for item_id in arguments["item_ids"]]
    new = [_variant(shop, item_id) for item_id in arguments["new_item_ids"]]
    yield kind.right_status(order)
    yield policy.once(order)
    yield kind.same_product([(item.product_id, product) for item, (product, _) in zip(old, new, strict=True)])
    yield kind.available([(item, variant) for item, (_, variant) in zip(old, new, strict=True)])
    difference = round(sum(variant.price for _, variant in new) - sum(item.price for item in old), 2)
    yield kind.difference(shop, arguments["payment_method_id"], difference)


def _variant(shop: Shop, item_id: str) -> tuple[str, Variant]:
    """A variant with the id of its product."""
    products = shop.db.products.values()
    return next((p.product_id, p.variants[item_id]) for p in products if item_id in p.variants)
