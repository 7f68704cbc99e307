"""What a scripted retail agent knows: what its calls have returned, and how it words that."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.episode.world import World
from slime_tau2.factory.dialogue import Result, Script
from slime_tau2.factory.draft import Call, Draft, Fact, Told, Wish, read
from slime_tau2.factory.expert import Expert
from slime_tau2.factory.retail.shop import Address, Item, Order, Product, Shop, User, original
from slime_tau2.factory.retail.words import ORDER_NUMBER, item_words, method_words, money, noun, plural
from slime_tau2.factory.stories import listed
from slime_tau2.factory.voice import first_person

LOCATING = ("get_user_details", "get_order_details")
KINDS = {"gift_card": "gift card", "paypal": "PayPal account", "credit_card": "credit card"}


class Known(Shop):
    """The shop as far as the agent has seen it."""

    def __init__(self, user: User, orders: Sequence[Order]):
        self.user = user
        self.orders = list(orders)


class Clerk(Expert):
    """An expert with retail's memory.

    Attributes:
        user_id: once the user is identified.
        orders, products: what has been looked up, as the last call left it.
        stale: what is on the user's gift cards may have changed since the profile was looked at.
    """

    def __init__(self, world: World, draft: Draft, *, persona: str | None, rng: random.Random):
        super().__init__(world, draft, persona=persona, rng=rng)
        db: Any = world.environments.base.tools.db
        tables: tuple[Mapping[str, Any], ...] = (db.users, db.orders, db.products)
        self._user_model, self._order_model, self._product_model = (type(next(iter(t.values()))) for t in tables)
        self.user_id = ""
        self.profile: User | None = None
        self.stale = False
        self.orders: dict[str, Order] = {}
        self.products: dict[str, Product] = {}

    def heard(self, call: Call, result: Result) -> None:
        if result.error:
            return
        if call.name.startswith("find_user_id"):
            self.user_id = result.text
        elif call.name in ("get_user_details", "modify_user_address"):
            self.profile = self._user_model.model_validate_json(result.text)
            self.stale = False
        elif "order_id" in call.arguments:
            if call.write:
                self.stale = self.profile is not None and bool(Known(self.profile, ()).gift_cards())
            self.orders[call.arguments["order_id"]] = self._order_model.model_validate_json(result.text)
        elif call.name == "get_product_details":
            product: Product = self._product_model.model_validate_json(result.text)
            self.products[product.product_id] = product

    # Looking up

    def look_at_profile(self, *, balances: bool = False) -> Script[User]:
        """The user's profile.

        Args:
            balances: what is on gift cards matters.
        """
        if self.stale and balances:
            self.profile = None
            self.results.pop(read("get_user_details", user_id=self.user_id).canonical(), None)
        if self.profile is None:
            yield from self.look(read("get_user_details", user_id=self.user_id))
        assert self.profile is not None
        return self.profile

    def look_at_product(self, product_id: str) -> Script[Product]:
        """A product with its variants."""
        yield from self.look(read("get_product_details", product_id=product_id))
        return self.products[product_id]

    def calculate(self, expression: str) -> Script[float]:
        """A sum, by the calculator."""
        result = yield from self.look(read("calculate", expression=expression))
        return float(result.text)

    def locate(self, wish: Wish, *, quiet: bool = False) -> Script[Order]:
        """Find the order of a wish, by its number or by what is in it.

        Args:
            quiet: say nothing of it.
        """
        number = next((fact for fact in wish.facts if fact.name == ORDER_NUMBER), None)
        if number:
            yield from self.ask(
                [number],
                "Which order is it? Please tell me the order number.",
                "[may] give me the order number?",
                "What is the number of the order?",
                "Which order is this about? I need its number.",
            )
        calls = _locating(wish)
        forgotten = next((fact for fact in wish.facts if fact.told is Told.FORGOTTEN), None)
        if forgotten and not self.known(forgotten) and calls and self.rng.random() < 0.4:
            yield from self.ask(
                [forgotten],
                "Do you have the order number?",
                "[may] tell me the order number, if you have it?",
                "Do you happen to know the order number?",
            )
        yield from self.look_all(calls)
        order = self.orders[self._order_id(wish, calls)]
        searched = forgotten is not None and order.user_id == self.user_id
        if not quiet and (searched or self.rng.random() < 0.4):
            self.note(self._found(order, searched))
        return order

    def _order_id(self, wish: Wish, calls: Sequence[Call]) -> str:
        numbers: list[str] = [call.arguments["order_id"] for call in calls if "order_id" in call.arguments]
        if numbers:
            return numbers[-1]
        return next(entity for entity in wish.entities if entity in self.orders)

    def _found(self, order: Order, searched: bool) -> str:
        status = status_words(order)
        if searched:
            things = contents(order)
            return self.pick(
                f"I found it: order {order.order_id} ({things}). It {status}.",
                f"That is order {order.order_id} with the {things}; it {status}.",
                f"I have found your order: {order.order_id}, with the {things}, which {status}.",
            )
        return self.pick(
            f"Order {order.order_id} {status}.",
            f"I have found order {order.order_id}; its status is {order.status}.",
            f"I have order {order.order_id} here; it {status}.",
        )

    # Words

    def method(self, method_id: str) -> str:
        """A payment method of the user: 'your gift card'."""
        if self.profile is not None and method_id in self.profile.payment_methods:
            return method_words(Known(self.profile, ()), method_id)
        return f"your {KINDS[method_id.rsplit('_', 1)[0]]}"

    def method_named(self, words: str) -> str:
        """The id of a payment method that the user names."""
        assert self.profile is not None
        return next(method_id for method_id in self.profile.payment_methods if self.method(method_id) == words)

    def balance(self, method_id: str) -> float | None:
        """What is on a gift card of the user."""
        assert self.profile is not None
        return Known(self.profile, ()).balance(method_id)

    def ask_reason(self, wish: Wish) -> Script[None]:
        """Why the user cancels."""
        yield from self.ask(
            [fact for fact in wish.facts if fact.name == "why you cancel"],
            "Why would you like to cancel: is it no longer needed, or was it ordered by mistake?",
            "May I ask for the reason: no longer needed, or ordered by mistake?",
            "What is the reason for the cancellation? It can be that the order is no longer needed, or that it was "
            "ordered by mistake.",
        )

    def fact_words(self, fact: Fact) -> str:
        for pattern, options in SAID:
            found = re.match(pattern, fact.words)
            if found:
                words = [self.voice.rng.choice(options)] if not self.voice.brief else [min(options, key=len)]
                return mine(found.expand(words[0]))
        return super().fact_words(fact)

    def statement(self, fact: Fact) -> str:
        why = re.match(r"Why you cancel: (.+)$", fact.words)
        text = super().statement(fact) if why is None else first_person(why[1])
        return text[:1].upper() + text[1:]


def mine(text: str) -> str:
    """The user's own things: 'your gift card' is 'my gift card'."""
    text = text.replace("that you used", "that I used").replace("that you paid", "that I paid")
    return text.replace("your ", "my ")


SAID: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"You are (.+)\.$", (r"I'm \1.", r"My name is \1.", r"This is \1.")),
    (r"You want the refund on (.+?); if that is not possible, on (.+)\.$", (r"On \1, please; if not, on \2.",)),
    (r"You want the refund on (.+)\.$", (r"On \1, please.", r"I'd like the refund on \1.", r"Please refund \1.")),
    (r"Why you cancel: (it|its) (.+)\.$", (r"It \2.",)),
    (r"Why you cancel: you see now that it (.+)\.$", (r"I see now that it \1.",)),
    (r"Why you cancel: what is in it (.+)\.$", (r"What is in it \1.", r"It \1.")),
    (r"Why you cancel: they (.+)\.$", (r"They \1.",)),
    (r"Why you cancel: your plans have changed and it (.+)\.$", (r"My plans have changed, and it \1.",)),
    (r"Any price difference is to be settled with (.+)\.$", (r"With \1, please.", r"Please use \1.")),
    (r"You want to use (.+) for the price difference\.$", (r"I'd use \1 for that.", r"Please use \1.")),
    (r"If there is a price difference, it goes to (.+)\.$", (r"On \1, please.", r"It can go to \1.")),
    (r"You want to pay for that order with (.+)\.$", (r"With \1.", r"I'd like to pay with \1.")),
    (r"The new address for that order is (.+)\.$", (r"\1", r"It should go to \1.", r"The new address is \1.")),
    (r"Your new address is (.+)\.$", (r"\1", r"My new address is \1.", r"It's \1.")),
    (r"You believe that your email address is (\S+)\. .*$", (r"I think it's \1.", r"It should be \1.", r"It's \1.")),
    (r"The order that you want to [^.]*? is (#W\d+)\.$", (r"It's \1.", r"\1", r"The order number is \1.")),
)
"""How the user says its facts when asked for one of them."""


def _locating(wish: Wish) -> list[Call]:
    """The gold calls up to the last order that is looked at."""
    calls = [call for call in wish.calls if call.name in LOCATING]
    while calls and calls[-1].name != "get_order_details":
        calls.pop()
    return calls


def contents(order: Order) -> str:
    """What is in an order: 'desk lamp, kettle and T-shirt'."""
    names = Counter(noun(item.name) for item in order.items)
    return listed([name if number == 1 else f"{name} ({number} of them)" for name, number in names.items()])


STATUS = {
    "pending": "is still pending",
    "processed": "has already been processed",
    "delivered": "has been delivered",
    "cancelled": "has been cancelled",
}


def status_words(order: Order) -> str:
    """An order's status, as said after 'it'."""
    return STATUS.get(order.status, f'has the status "{order.status}"')


def refund_time(method_id: str) -> str:
    """When a refund arrives."""
    return "immediately" if method_id.startswith("gift_card") else "within 5 to 7 business days"


def paid_back(clerk: Clerk, order: Order) -> str:
    """The whole refund of an order: '$12.34 to your original payment method, your gift card, immediately'."""
    amount = money(order.payment_history[0].amount)
    return f"${amount} to {paid_with(clerk, order)}, {refund_time(original(order))}"


def paid_with(clerk: Clerk, order: Order) -> str:
    """How an order was paid: 'the original payment method, your gift card'."""
    return f"the original payment method, {clerk.method(original(order))}"


def priced(items: Sequence[Item], order: Order) -> str:
    """Items of an order with their prices: 'the desk lamp ($12.34) and the kettle ($56.78)'."""
    return listed([f"{item_words(item, order.items)} (${money(item.price)})" for item in items])


def is_or_are(item: Item) -> str:
    """The verb for an item: boots are."""
    return "are" if plural(item.name) else "is"


def described(options: Mapping[str, str]) -> str:
    """A variant in full: 'color: black, size: XL'."""
    return ", ".join(f"{option}: {value}" for option, value in options.items())


def called(clerk: Clerk, user: User) -> str:
    """How the agent addresses the user."""
    return user.name.first_name


def address_of(arguments: Mapping[str, Any]) -> str:
    """The address in a call."""
    fields = ("address1", "address2", "city", "state", "zip", "country")
    street, extra, city, state, code, country = (str(arguments[field]) for field in fields)
    return ", ".join(filter(None, (street, extra, city, f"{state} {code}", country)))


def same_address(address: Address, arguments: Mapping[str, Any]) -> bool:
    """Whether a call's address is one that the agent has seen."""
    return all(getattr(address, field) == arguments[field] for field in ("address1", "address2", "city", "zip"))


def instruction(wish: Wish, pattern: str) -> re.Match[str] | None:
    """The instruction of a wish that begins as a pattern."""
    return next((found for line in wish.instructions if (found := re.match(pattern, line))), None)


def too_little(clerk: Clerk, short: str, instead: str, amount: float, *, asked: bool) -> Script[None]:
    """A gift card does not cover an amount; the user takes something else.

    Args:
        asked: the user has named the gift card alone so far.
    """
    balance = clerk.balance(clerk.method_named(short))
    assert balance is not None and balance < amount
    why = clerk.pick(
        f"There is ${money(balance)} on {short}, which doesn't cover the ${money(amount)}.",
        f"The balance of {short} is ${money(balance)}, and ${money(amount)} are needed, so that isn't enough.",
    )
    if asked:
        yield from clerk.say(
            why, clerk.pick("What else would you like to use?", "Which other payment method may it be?")
        )
        yield from clerk.answer(clerk.voice.pick(f"Then {mine(instead)}.", f"OK, take {mine(instead)}, please."))
    else:
        clerk.note(f"{why} So I would use {instead}.")
