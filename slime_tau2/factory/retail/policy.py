"""Retail's policy as named predicates on the database and the scenario."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slime_tau2.factory.retail.shop import Item, Order, Shop, User, Variant, original
from slime_tau2.factory.rules import Finding, Rulebook

BOOK = Rulebook()
rule = BOOK.rule

GENERAL, ACTIONS = "Retail agent policy", "Generic action rules"
CANCEL, MODIFY = "Cancel pending order", "Modify pending order"
PAYMENT, ITEMS = "Modify payment", "Modify items"
RETURN, EXCHANGE = "Return delivered order", "Exchange delivered order"

CANCEL_REASONS = ("no longer needed", "ordered by mistake")
SCOPE = ("cancel", "modify", "return", "exchange", "default address", "information")


# Of every conversation


@rule(GENERAL, "the user is found by email, or by name and zip code, before anything else")
def authenticated(by_email: bool, by_name_and_zip: bool) -> bool:
    return by_email or by_name_and_zip


@rule(GENERAL, "one conversation serves one user: nothing about anybody else's orders or profile")
def one_user(shop: Shop, owned: Order | User) -> bool:
    return owned.user_id == shop.user.user_id


@rule(GENERAL, "the details of a write are listed, and the user agrees before it is made")
def confirmed(agrees: bool) -> bool:
    return agrees


@rule(GENERAL, "the user is told about their own profile and orders, and about products")
def information(own: bool) -> bool:
    return own


@rule(GENERAL, "what no action can do goes to a person, and nothing else does")
def in_scope(request: str) -> bool:
    return request in SCOPE


@rule(ACTIONS, "an order's items are modified or exchanged once, all in one call; a return ends it too")
def once(order: Order) -> bool:
    return order.status in ("pending", "delivered")


def own(shop: Shop, order: Order) -> tuple[Finding, ...]:
    """What holds of every write to an order of the user's own, to which the user agrees."""
    return one_user(shop, order), confirmed(True)


# Cancel pending order


@rule(CANCEL, "only a pending order can be cancelled")
def cancel_pending(order: Order) -> bool:
    return order.status == "pending"


@rule(CANCEL, "the reason is that it is no longer needed or was ordered by mistake")
def cancel_reason(reason: str) -> bool:
    return reason in CANCEL_REASONS


@rule(CANCEL, "an order is cancelled as a whole, and what was paid goes back the way it came")
def cancel_whole(items: Sequence[Item], order: Order, refund_to: str) -> bool:
    return len(items) == len(order.items) and refund_to == original(order)


# Modify pending order


@rule(MODIFY, "only a pending order can be modified")
def modify_pending(order: Order) -> bool:
    return order.status == "pending"


@rule(MODIFY, "only address, payment method and options of items can be modified: nothing is added or removed")
def modify_only(what: str) -> bool:
    return what in ("address", "payment", "options")


@rule(PAYMENT, "an order is paid with a single payment method")
def payment_single(methods: int) -> bool:
    return methods == 1


@rule(PAYMENT, "the new payment method is not the one that the order was paid with")
def payment_other(order: Order, method_id: str) -> bool:
    return method_id != original(order) and len(order.payment_history) == 1


@rule(PAYMENT, "a gift card must cover the order's total")
def payment_covered(shop: Shop, method_id: str, amount: float) -> bool:
    balance = shop.balance(method_id)
    return balance is None or balance >= amount


@rule(ITEMS, "modifying items comes last: the order cannot be modified or cancelled after it")
def items_last(order: Order) -> bool:
    return order.status == "pending"


@rule(ITEMS, "a new item is of the same product")
def items_same_product(products: Iterable[tuple[str, str]]) -> bool:
    return all(old == new for old, new in products)


@rule(ITEMS, "a new item is available, and differs in an option")
def items_available(pairs: Iterable[tuple[Item, Variant]]) -> bool:
    return all(new.available and new.item_id != old.item_id for old, new in pairs)


@rule(ITEMS, "a payment method of the user takes the price difference; a gift card must cover it")
def items_difference(shop: Shop, method_id: str, difference: float) -> bool:
    return _covers(shop, method_id, difference)


# Return delivered order


@rule(RETURN, "only a delivered order can be returned")
def return_delivered(order: Order) -> bool:
    return order.status == "delivered"


@rule(RETURN, "the items to be returned are in the order")
def return_items(items: Iterable[Item], order: Order) -> bool:
    return all(item in order.items for item in items)


@rule(RETURN, "the refund goes to the order's payment method or to a gift card that the user has")
def return_refund(shop: Shop, order: Order, method_id: str) -> bool:
    return method_id == original(order) or method_id in shop.gift_cards()


# Exchange delivered order


@rule(EXCHANGE, "only a delivered order can be exchanged")
def exchange_delivered(order: Order) -> bool:
    return order.status == "delivered"


@rule(EXCHANGE, "a new item is of the same product")
def exchange_same_product(products: Iterable[tuple[str, str]]) -> bool:
    return all(old == new for old, new in products)


@rule(EXCHANGE, "a new item is available, and differs in an option")
def exchange_available(pairs: Iterable[tuple[Item, Variant]]) -> bool:
    return all(new.available and new.item_id != old.item_id for old, new in pairs)


@rule(EXCHANGE, "a payment method of the user takes the price difference; a gift card must cover it")
def exchange_difference(shop: Shop, method_id: str, difference: float) -> bool:
    return _covers(shop, method_id, difference)


def _covers(shop: Shop, method_id: str, difference: float) -> bool:
    if method_id not in shop.user.payment_methods:
        return False
    balance = shop.balance(method_id)
    return balance is None or balance >= difference
