"""How a booking or a change is paid, in the policy's bounds and to the dollar."""

from __future__ import annotations

from dataclasses import dataclass

from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import PaymentMethod
from slime_tau2.factory.airline.words import distinct_methods, method_words


@dataclass(frozen=True)
class Plan:
    """Which methods pay how much, in order; and the user's words for it."""

    parts: tuple[tuple[PaymentMethod, int], ...]
    words: str

    def argument(self) -> list[dict[str, object]]:
        """As the booking tool takes it."""
        return [{"payment_id": method.id, "amount": amount} for method, amount in self.parts]

    def methods(self) -> list[PaymentMethod]:
        """What pays."""
        return [method for method, _ in self.parts]

    def ids(self) -> frozenset[str]:
        """Ids of the methods whose balance changes."""
        return frozenset(method.id for method, _ in self.parts if method.source != "credit_card")


def plan(desk: Desk, total: int) -> Plan | None:
    """A way for the user to pay `total` dollars for a booking; None if the profile has none."""
    rng = desk.rng
    cards = distinct_methods(desk, desk.methods("credit_card"))
    gifts, certificates = desk.methods("gift_card"), desk.methods("certificate")
    rng.shuffle(gifts)
    order: list[PaymentMethod] = []
    if certificates and rng.random() < 0.45:
        order.append(rng.choice(certificates))
    if gifts and rng.random() < 0.55:
        order += gifts[: rng.choice((1, 1, 2, 3))]
    parts: list[tuple[PaymentMethod, int]] = []
    left = total
    for method in order:
        amount = min(left, int(method.amount))
        if amount:
            parts.append((method, amount))
            left -= amount
    if left:
        if not cards:
            return None
        parts.append((rng.choice(cards), left))
    return Plan(tuple(parts), _words(desk, parts))


def _words(desk: Desk, parts: list[tuple[PaymentMethod, int]]) -> str:
    names = [method_words(desk, method) for method, _ in parts]
    if len(parts) == 1:
        method, amount = parts[0]
        if method.source == "certificate" and amount < method.amount:
            return f"You want to pay for the new trip with {names[0]}; you know that what is left of it is lost."
        return f"You want to pay for the new trip with {names[0]}."
    used = ", then ".join(f"use up {name}" for name in names[:-1])
    last = parts[-1][0]
    rest = "put" if last.source == "credit_card" else "take"
    place = "on" if last.source == "credit_card" else "from"
    return f"To pay for the new trip, {used}, and {rest} what remains {place} {names[-1]}."


@dataclass(frozen=True)
class Single:
    """The one gift card or credit card that settles a difference, and the user's words for it."""

    method: PaymentMethod
    words: str

    def ids(self) -> frozenset[str]:
        """Ids of the methods whose balance changes."""
        return frozenset({self.method.id} if self.method.source == "gift_card" else ())


def single(desk: Desk, difference: int, trip: str) -> Single | None:
    """A method that can settle the difference that a change of a trip makes; None if the profile has none."""
    method = _able(desk, difference)
    if method is None:
        return None
    name = method_words(desk, method)
    words = desk.rng.choice(
        (
            f"If there is something to pay for {trip}, use {name}; a refund goes there too.",
            f"Any difference in the price of {trip} is to be settled with {name}.",
            f"You want to use {name} for what is to be paid or refunded for {trip}.",
        )
    )
    return Single(method, words)


def for_bags(desk: Desk, price: int, trip: str) -> Single | None:
    """A method that can pay for bags on a trip; None if the profile has none."""
    method = _able(desk, price)
    if method is None:
        return None
    name = method_words(desk, method)
    words = desk.rng.choice(
        (
            f"If the added bags on {trip} cost anything, you pay with {name}.",
            f"You want to use {name} for what the added bags on {trip} may cost.",
        )
    )
    return Single(method, words)


def _able(desk: Desk, price: int) -> PaymentMethod | None:
    methods = distinct_methods(desk, desk.methods("credit_card", "gift_card"))
    fit = [m for m in methods if m.source == "credit_card" or m.amount >= price]
    return desk.rng.choice(fit) if fit else None
