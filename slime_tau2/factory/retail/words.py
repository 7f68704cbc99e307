"""How a customer speaks of items, variants, orders, payment methods and amounts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slime_tau2.factory.draft import Call, Fact, Told, read
from slime_tau2.factory.retail.shop import Address, Item, Order, Product, Shop
from slime_tau2.factory.stories import listed

ORDER_NUMBER = "the order number"


def noun(name: str) -> str:
    """A product's name within a sentence: 'Desk Lamp' is 'desk lamp', 'LED Light Bulb' stays 'LED light bulb'."""
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in name.split())


def plural(name: str) -> bool:
    """Whether a product's name is a plural: 'Hiking Boots'."""
    return name.endswith("s")


def feature(option: str, value: str) -> str:
    """One option of a variant, as it is said after 'one': 'in black', 'made of glass', 'with 256GB storage'."""
    if option == "color":
        return f"in {value}"
    if option == "material":
        return f"made of {value}"
    if option == "size":
        return f"in {value}" if "size" in value else f"in size {value}"
    if option == "type":
        return f"of the type {value}"
    if option == "features":
        return f"with the feature {value}" if value != "none" else "without extra features"
    if option == "brand":
        return f"of {value}"
    if "/" in option:
        return f'marked "{value}"'
    if value == "none":
        return f"without {option}"
    if value in ("yes", "no", "unisex") or value.startswith("not "):
        return f'with "{option}: {value}"'
    if option == "gender":
        return f"for {value}"
    if option.split()[0][:5] in value:
        return f"with {value}"
    return f"with {value} {option}"


def features(options: Mapping[str, str]) -> str:
    """Several options: 'in black, made of leather and with polarized lens type'."""
    return listed([feature(option, value) for option, value in options.items()])


def item_words(item: Item, among: Sequence[Item]) -> str:
    """'the desk lamp'; with the options that tell it from others of its product: 'the T-shirt (in red, in size L)'."""
    alike = [other for other in among if other.product_id == item.product_id and other.item_id != item.item_id]
    if not alike:
        return f"the {noun(item.name)}"
    telling = {o: v for o, v in item.options.items() if any(other.options.get(o) != v for other in alike)}
    return f"the {noun(item.name)} ({', '.join(feature(o, v) for o, v in telling.items())})"


def items_words(items: Sequence[Item], among: Sequence[Item]) -> str:
    """Several items: 'the desk lamp and the kettle'."""
    return listed([item_words(item, among) for item in items])


def them(items: Sequence[Item]) -> str:
    """'it' or 'them'."""
    return "them" if len(items) > 1 or plural(items[0].name) else "it"


def money(amount: float) -> str:
    """An amount as agents write it, without thousands: '1234.56'."""
    return f"{amount:.2f}"


def tellable(amount: float) -> bool:
    """Whether an amount is told in one way only: 54.10 may be said as 54.1, 54.00 as 54."""
    return amount > 0 and not money(amount).endswith("0")


def address_words(address: Address) -> str:
    """An address on one line."""
    parts = (address.address1, address.address2, address.city, f"{address.state} {address.zip}", address.country)
    return ", ".join(part for part in parts if part)


def method_words(shop: Shop, method_id: str) -> str:
    """A payment method of the user: 'your PayPal account', 'your credit card (visa ending in 1234)'."""
    methods = shop.user.payment_methods
    method = methods[method_id]
    name = {"gift_card": "gift card", "paypal": "PayPal account", "credit_card": "credit card"}[method.source]
    if sum(other.source == method.source for other in methods.values()) == 1:
        return f"your {name}"
    brand, last = getattr(method, "brand", None), getattr(method, "last_four", None)
    return f"your {name} ({brand} ending in {last})" if last else f"your {name} {method_id}"


@dataclass(frozen=True)
class Reference:
    """How the user speaks of an order, and how the agent gets from there to it.

    Attributes:
        words: "order #W123", "your order", "the order with the desk lamp".
        facts: the order number, if the user knows it or has forgotten it.
        reads: gold calls up to the order's details.
        known_by_items: the items that the user speaks of say by themselves which order it is.
    """

    words: str
    facts: tuple[Fact, ...]
    reads: tuple[Call, ...]
    known_by_items: bool = False

    def place(self, preposition: str) -> str:
        """Where the items are, to be said behind them: ' in order #W123'; nothing where they say it themselves."""
        return "" if self.known_by_items else f" {preposition} {self.words}"


def refer(
    shop: Shop, order: Order, rng: random.Random, purpose: str, *, about: Sequence[Item] = (), forget: float = 0.5
) -> Reference:
    """A way to speak of one of the user's own orders that leaves no doubt which it is.

    Args:
        purpose: as in "The order that you want to {purpose} is #W123."
        about: the items that the user speaks of.
        forget: how likely the number is forgotten, where the order is known by what is in it.
    """
    number = Fact(ORDER_NUMBER, f"The order that you want to {purpose} is {order.order_id}.")
    telling = shop.telling(order)
    if telling and rng.random() < forget:
        if about and all(item in telling for item in about):
            words = f"the order with the {noun(about[0].name)}"
            return Reference(words, _forgotten(about[0]), search(shop, order), known_by_items=True)
        others = [item for item in telling if item not in about] or telling
        words = rng.choice(("the order with the {}", "the order in which you bought the {}"))
        item = rng.choice(others)
        words = words.format(noun(item.name))
        if len(shop.orders) == 1 and rng.random() < 0.7:
            words = "your only order"
        return Reference(words, _forgotten(item), search(shop, order))
    direct = (read("get_order_details", order_id=order.order_id),)
    if rng.random() < 0.5:
        return Reference(f"order {order.order_id}", (), direct)
    words = "one of your orders" if len(shop.orders) > 1 else "your order"
    return Reference(words, (Fact(number.name, number.words, Told.ASKED),), direct)


def _forgotten(item: Item) -> tuple[Fact, ...]:
    return (Fact(f"the number of the order with the {noun(item.name)}", "", Told.FORGOTTEN),)


def search(shop: Shop, order: Order) -> tuple[Call, ...]:
    """The gold calls that find an order without its number: the user's orders are looked at in turn."""
    looked_at = shop.user.orders[: shop.user.orders.index(order.order_id) + 1]
    return (
        read("get_user_details", user_id=shop.user.user_id),
        *(read("get_order_details", order_id=order_id) for order_id in looked_at),
    )


def options_but(options: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """The options whose value the other does not have."""
    return {option: value for option, value in options.items() if other.get(option) != value}


def a_product(product: Product) -> str:
    """Any one of a product: 'a desk lamp', 'an e-reader', 'hiking boots'."""
    name = noun(product.name)
    if plural(product.name):
        return name
    vowel = name[0].lower() in "aeiou" or (name[:2].isupper() and name[0] in "FHLMNRSX")
    return f"an {name}" if vowel else f"a {name}"
