"""Retail's database as the families see it: shapes for type checkers, and what they look up in it. Nothing here writes.

tau2's rows are pydantic models that are found at run time; the Protocols name the fields that we read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from slime_tau2.factory.case import Case

if TYPE_CHECKING:
    from slime_tau2.episode.world import World


class Variant(Protocol):
    item_id: str
    options: Mapping[str, str]
    available: bool
    price: float


class Product(Protocol):
    name: str
    product_id: str
    variants: Mapping[str, Variant]


class Address(Protocol):
    address1: str
    address2: str
    city: str
    country: str
    state: str
    zip: str


class Name(Protocol):
    first_name: str
    last_name: str


class PaymentMethod(Protocol):
    source: str
    id: str


class User(Protocol):
    user_id: str
    name: Name
    address: Address
    email: str
    payment_methods: Mapping[str, PaymentMethod]
    orders: Sequence[str]


class Item(Protocol):
    name: str
    product_id: str
    item_id: str
    price: float
    options: Mapping[str, str]


class Payment(Protocol):
    transaction_type: str
    amount: float
    payment_method_id: str


class Shipment(Protocol):
    tracking_id: Sequence[str]
    item_ids: Sequence[str]


class Order(Protocol):
    order_id: str
    user_id: str
    address: Address
    items: Sequence[Item]
    status: str
    fulfillments: Sequence[Shipment]
    payment_history: Sequence[Payment]
    cancel_reason: str | None


class Shop:
    """The database as a case has it now, from its owner's side."""

    def __init__(self, case: Case):
        self.case, self.db = case, case.db
        self.user: User = self.db.users[case.owner]
        self.orders: list[Order] = [self.db.orders[order_id] for order_id in self.user.orders]

    def product(self, product_id: str) -> Product:
        """A product by its id."""
        product: Product = self.db.products[product_id]
        return product

    def telling(self, order: Order) -> list[Item]:
        """The items of an order whose product is in no other order of the user, and once in this one."""
        names = [item.product_id for other in self.orders for item in other.items]
        return [item for item in order.items if names.count(item.product_id) == 1]

    def with_status(self, *statuses: str) -> list[Order]:
        """The user's orders in one of these statuses that no earlier wish is about."""
        free = [order for order in self.orders if not self.case.touched(order.order_id)]
        return [order for order in free if order.status in statuses]

    def method(self, method_id: str) -> PaymentMethod:
        """A payment method of the user."""
        return self.user.payment_methods[method_id]

    def balance(self, method_id: str) -> float | None:
        """What is on a gift card; None for other payment methods."""
        balance: float | None = getattr(self.method(method_id), "balance", None)
        return balance

    def gift_cards(self) -> list[str]:
        """Ids of the user's gift cards."""
        return [method_id for method_id in self.user.payment_methods if self.balance(method_id) is not None]


def original(order: Order) -> str:
    """The payment method that an order was paid with."""
    return order.payment_history[0].payment_method_id


def total(order: Order) -> float:
    """What an order cost when it was placed."""
    return order.payment_history[0].amount


def distinct(order: Order) -> bool:
    """Whether no item is twice in an order."""
    return len({item.item_id for item in order.items}) == len(order.items)


def mentioned(texts: Iterable[str]) -> set[str]:
    """Order ids and the like that a text mentions, with or without '#'."""
    return {f"#W{number}" for text in texts for number in re.findall(r"W(\d{7})", text)}


def owners(world: World) -> list[str]:
    """Users of whom no test or val task speaks, sorted."""
    db: Any = world.environments.base.tools.db
    spoken_of: set[str] = set()
    for split in ("test", "val"):
        for task_id in world.splits.get(split, ()):
            text = world.task(task_id).model_dump_json()
            spoken_of |= {db.orders[order].user_id for order in mentioned([text]) if order in db.orders}
            spoken_of |= {user.user_id for user in db.users.values() if _in(user, text)}
    return sorted(user for user in db.users if user not in spoken_of)


def _in(user: User, text: str) -> bool:
    """Whether a text has a user's id, email, or name and zip code."""
    name = (user.name.first_name, user.name.last_name, user.address.zip)
    return user.user_id in text or user.email in text or all(part in text for part in name)
