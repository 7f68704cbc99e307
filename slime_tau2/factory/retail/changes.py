"""What a customer may want instead of an item, such that exactly one variant is meant; and who pays the difference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slime_tau2.factory.draft import Call, Fact, read
from slime_tau2.factory.retail.shop import Item, Order, Product, Shop, Variant, original
from slime_tau2.factory.retail.words import (
    feature,
    features,
    item_words,
    method_words,
    noun,
    options_but,
    plural,
)
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered

Pairs = Sequence[tuple[Item, Variant]]
SETTLEMENT = "how the price difference is settled"


@dataclass(frozen=True, kw_only=True)
class Change:
    """Another variant in the place of an item.

    Attributes:
        target: the variant that the user ends up with.
        wish: what the user asks for at first, as said after "for" or "to".
        instructions: what the user says later: second choices, changes of mind.
        first: an unavailable variant that the user would rather have had.
    """

    item: Item
    target: Variant
    wish: str
    instructions: tuple[str, ...] = ()
    first: Variant | None = None


def ones(item: Item) -> str:
    """'one', or 'ones' for boots."""
    return "ones" if plural(item.name) else "one"


def exact(item: Item, variant: Variant) -> str:
    """A variant by the options that it does not share with the item: 'one in black (the rest as ordered)'."""
    other = options_but(variant.options, item.options)
    rest = " (the rest as ordered)" if len(other) < len(variant.options) else ""
    return f"{ones(item)} {features(other)}{rest}"


def in_stock(product: Product, item: Item) -> list[Variant]:
    """The available variants other than the item itself."""
    return [v for v in product.variants.values() if v.available and v.item_id != item.item_id]


def cheapest(variants: Sequence[Variant]) -> Variant | None:
    """The cheapest of some variants, if no other costs the same."""
    return _first(sorted(variants, key=lambda variant: variant.price))


def dearest(variants: Sequence[Variant]) -> Variant | None:
    """The dearest of some variants, if no other costs the same."""
    return _first(sorted(variants, key=lambda variant: -variant.price))


def _first(ordered: Sequence[Variant]) -> Variant | None:
    if not ordered or (len(ordered) > 1 and ordered[0].price == ordered[1].price):
        return None
    return ordered[0]


def _near(rng: random.Random, item: Item, variants: Sequence[Variant]) -> Variant | None:
    """A variant by chance, rather one that shares options with the item: that is how people change things."""
    if not variants:
        return None
    by_distance = sorted(variants, key=lambda v: (len(options_but(v.options, item.options)), rng.random()))
    return by_distance[0] if rng.random() < 0.6 else rng.choice(by_distance)


def _plain(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    target = _near(rng, item, in_stock(product, item))
    return Change(item=item, target=target, wish=exact(item, target)) if target else None


def _extreme(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    pick, word = rng.choice(((cheapest, "cheapest"), (dearest, "most expensive")))
    target = pick([v for v in product.variants.values() if v.available])
    if target is None or target.item_id == item.item_id:
        return None
    wish = f"the {word} available {ones(item)}, whatever the other details"
    return Change(item=item, target=target, wish=wish)


def _by_feature(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    choices = [(o, v) for variant in in_stock(product, item) for o, v in variant.options.items()]
    choices = sorted({(o, v) for o, v in choices if item.options.get(o) != v})
    if not choices:
        return None
    option, value = rng.choice(choices)
    pick, word = rng.choice(((cheapest, "cheapest"), (dearest, "most expensive")))
    target = pick([v for v in in_stock(product, item) if v.options.get(option) == value])
    if target is None:
        return None
    which = feature(option, value)
    if rng.random() < 0.5:
        wish = f"the {word} available {ones(item)} {which}, whatever the other details"
        return Change(item=item, target=target, wish=wish)
    line = (
        f"If the shop has more than one {noun(item.name)} {which}, you want the {word}, whatever the other details; "
        "say so when the agent names one or asks which."
    )
    if plural(item.name):
        line = line.replace("more than one", "several kinds of")
    return Change(item=item, target=target, wish=f"{ones(item)} {which}", instructions=(line,))


def _second_choice(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    gone = [v for v in product.variants.values() if not v.available and v.item_id != item.item_id]
    first, target = _near(rng, item, gone), _near(rng, item, in_stock(product, item))
    if first is None or target is None:
        return None
    verb = "are" if plural(item.name) else "is"
    line = f"If the {noun(item.name)} that you want {verb} not available, you want {exact(item, target)} instead."
    return Change(item=item, target=target, wish=exact(item, first), instructions=(line,), first=first)


def _price_limit(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    dearer = [v for v in in_stock(product, item) if v.price > item.price]
    cheaper = [v for v in in_stock(product, item) if v.price < item.price]
    first, target = _near(rng, item, dearer), _near(rng, item, cheaper)
    if first is None or target is None:
        return None
    line = (
        f"Ask what the {noun(item.name)} that you want would cost. If it is more than you paid, you want "
        f"{exact(item, target)} instead."
    )
    return Change(item=item, target=target, wish=exact(item, first), instructions=(line,))


def _change_of_mind(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    stock = in_stock(product, item)
    if len(stock) < 2:
        return None
    first, target = rng.sample(stock, 2)
    line = (
        f"When the agent asks you to confirm, you change your mind about {item_words(item, among)}: "
        f"you want {exact(item, target)} instead."
    )
    return Change(item=item, target=target, wish=exact(item, first), instructions=(line,))


Way = Callable[[random.Random, Item, Product, Sequence[Item]], Change | None]
WAYS: tuple[tuple[Way, int], ...] = (
    (_plain, 50),
    (_extreme, 10),
    (_by_feature, 14),
    (_second_choice, 12),
    (_price_limit, 6),
    (_change_of_mind, 8),
)


def change(rng: random.Random, item: Item, product: Product, among: Sequence[Item]) -> Change | None:
    """A change of an item by chance; None where the product has nothing that fits.

    Args:
        among: the items that it may be confused with.
    """
    ways, weights = zip(*WAYS, strict=True)
    way: Way = rng.choices(ways, weights)[0]
    return way(rng, item, product, among) or _plain(rng, item, product, among)


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Who pays a price difference, or gets it back.

    Attributes:
        fact: what the user says of it.
        tried: the rule that the user's first idea runs into.
        sensitive: gift cards whose balance decides.
    """

    method_id: str
    fact: Fact
    reads: tuple[Call, ...] = ()
    tried: tuple[Finding, ...] = ()
    sensitive: frozenset[str] = frozenset()


def settle(
    shop: Shop, order: Order, difference: float, rule: Callable[[Shop, str, float], Finding]
) -> Settlement | None:
    """A payment method that can take a price difference; None where the user has none.

    Args:
        difference: what is to be paid, below 0 what is given back.
        rule: the predicate of the section that the change is under.
    """
    rng = shop.case.rng
    able = [method for method in shop.user.payment_methods if rule(shop, method, difference).holds]
    unable = [method for method in shop.user.payment_methods if method not in able]
    if not able:
        return None
    method = original(order) if original(order) in able and rng.random() < 0.3 else rng.choice(able)
    words = method_words(shop, method)
    tried: tuple[Finding, ...] = ()
    if unable and rng.random() < 0.6:
        short = rng.choice(unable)
        text = (
            f"You would like to settle the price difference with {method_words(shop, short)}; "
            f"if the balance is too low, you take {words}."
        )
        tried = (rule(shop, short, difference),)
    else:
        if method == original(order) and len(shop.user.payment_methods) > 1 and rng.random() < 0.5:
            words = "the payment method that you used for that order"
        text = rng.choice(
            (
                "Any price difference is to be settled with {}.",
                "You want to use {} for the price difference.",
                "If there is a price difference, it goes to {}.",
            )
        ).format(words)
    look = tried or method != original(order)
    return Settlement(
        method_id=method,
        fact=remembered(rng, Fact(SETTLEMENT, text), at_once=0.3),
        reads=(read("get_user_details", user_id=shop.user.user_id),) if look else (),
        tried=tried,
        sensitive=frozenset(card for card in shop.gift_cards() if card == method or card in unable),
    )
