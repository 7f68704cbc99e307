"""Other variants: of items in a pending order (modify), and of items in a delivered one (exchange)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read, write
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.changes import Change, change, settle
from slime_tau2.factory.retail.shop import Order, Shop, distinct
from slime_tau2.factory.retail.words import Reference, item_words, money, refer, tellable
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import listed


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is different between the two."""

    status: str
    tool: str
    purpose: str
    about: str
    sentences: tuple[str, ...]
    preposition: str
    preposition_of_order: str
    right_status: Callable[[Order], Finding]
    same_product: Callable[[list[tuple[str, str]]], Finding]
    available: Callable[..., Finding]
    difference: Callable[[Shop, str, float], Finding]
    others: Callable[[Order], tuple[Finding, ...]]


MODIFY = Kind(
    status="pending",
    tool="modify_pending_order_items",
    purpose="change",
    about="the change of items",
    sentences=("You want to change", "You want to modify", "You want to switch"),
    preposition="to",
    preposition_of_order="in",
    right_status=policy.modify_pending,
    same_product=policy.items_same_product,
    available=policy.items_available,
    difference=policy.items_difference,
    others=lambda order: (policy.modify_only("options"), policy.items_last(order), policy.once(order)),
)
EXCHANGE = Kind(
    status="delivered",
    tool="exchange_delivered_order_items",
    purpose="exchange something from",
    about="the exchange",
    sentences=("You want to exchange", "You want to swap"),
    preposition="for",
    preposition_of_order="from",
    right_status=policy.exchange_delivered,
    same_product=policy.exchange_same_product,
    available=policy.exchange_available,
    difference=policy.exchange_difference,
    others=lambda order: (policy.once(order),),
)


def modify_items(case: Case) -> Wish | None:
    """Items of a pending order are changed to other variants, all in one call."""
    return _wish(case, MODIFY)


def exchange_items(case: Case) -> Wish | None:
    """Items of a delivered order are exchanged for other variants, all in one call."""
    return _wish(case, EXCHANGE)


def _wish(case: Case, kind: Kind) -> Wish | None:
    shop, rng = Shop(case), case.rng
    orders = [order for order in shop.with_status(kind.status) if distinct(order)]
    if not orders:
        return None
    order = rng.choice(orders)
    return other_variants(case, shop, order, kind)


def other_variants(case: Case, shop: Shop, order: Order, kind: Kind, reference: Reference | None = None) -> Wish | None:
    """The wish for other variants of some items of an order.

    Args:
        reference: how the user speaks of the order; by chance if None.
    """
    changes = _changes(shop, order)
    if not changes:
        return None
    difference = round(sum(c.target.price - c.item.price for c in changes), 2)
    settlement = settle(shop, order, difference, kind.difference)
    if settlement is None:
        return None
    if reference is None:
        reference = refer(shop, order, case.rng, kind.purpose, about=[c.item for c in changes])
    told = _tell(shop, order, changes, kind, reference)
    question = _question(shop, changes, difference)
    first = [(c.item, c.first) for c in changes if c.first]
    return Wish(
        reason=told.reason,
        about=kind.about,
        facts=(*reference.facts, *told.facts, settlement.fact),
        instructions=(*told.instructions, *question.instructions),
        calls=(
            *reference.reads,
            *settlement.reads,
            *(read("get_product_details", product_id=c.item.product_id) for c in changes),
            *question.reads,
            write(
                kind.tool,
                any_order=("item_ids", "new_item_ids"),
                order_id=order.order_id,
                item_ids=[c.item.item_id for c in changes],
                new_item_ids=[c.target.item_id for c in changes],
                payment_method_id=settlement.method_id,
            ),
        ),
        findings=(
            *policy.own(shop, order),
            kind.right_status(order),
            *kind.others(order),
            kind.same_product([(c.item.product_id, c.item.product_id) for c in changes]),
            kind.available([(c.item, c.target) for c in changes]),
            kind.difference(shop, settlement.method_id, difference),
        ),
        tried=(*settlement.tried, *((kind.available(first),) if first else ())),
        tells=question.tells,
        entities=frozenset({order.order_id, settlement.method_id}),
        sensitive=settlement.sensitive,
    )


def _changes(shop: Shop, order: Order) -> list[Change]:
    """One to three items that change, in the order in which the database has them."""
    rng = shop.case.rng
    number = min(len(order.items), rng.choice((1, 1, 1, 2, 2, 3)))
    picked = sorted(rng.sample(range(len(order.items)), number))
    changes = [change(rng, order.items[n], shop.product(order.items[n].product_id), order.items) for n in picked]
    return [c for c in changes if c is not None]


@dataclass(frozen=True)
class _Telling:
    reason: str
    facts: tuple[Fact, ...] = ()
    instructions: tuple[str, ...] = ()


def _tell(shop: Shop, order: Order, changes: Sequence[Change], kind: Kind, reference: Reference) -> _Telling:
    """All at once; or what is wanted instead only when asked; or the last change only when it is almost too late."""
    rng = shop.case.rng
    verb = rng.choice(kind.sentences)
    later = tuple(line for c in changes for line in c.instructions)
    at_first, added = list(changes), None
    if len(changes) > 1 and rng.random() < 0.3:
        *at_first, added = changes
    names = [item_words(c.item, order.items) for c in at_first]
    place = reference.place(kind.preposition_of_order)
    if added:
        text = (
            "When the agent asks whether there is anything else to change in that order, or asks you to confirm, you "
            f"add one more item: {item_words(added.item, order.items)}, {kind.preposition} {added.wish}."
        )
        later = (text, *later)
    if rng.random() < 0.35:
        facts = [
            Fact(f"what you want instead of {name}", f"Instead of {name} you want {c.wish}.", Told.ASKED)
            for name, c in zip(names, at_first, strict=True)
        ]
        return _Telling(f"{verb} {listed(names)}{place}.", tuple(facts), later)
    if len(at_first) == 1:
        return _Telling(f"{verb} {names[0]}{place} {kind.preposition} {at_first[0].wish}.", (), later)
    wishes = [f"{name} {kind.preposition} {c.wish}" for name, c in zip(names, at_first, strict=True)]
    return _Telling(f"{verb} {len(names)} items{place}: {'; '.join(wishes)}.", (), later)


@dataclass(frozen=True)
class _Question:
    instructions: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    reads: tuple[Call, ...] = ()


def _question(shop: Shop, changes: Sequence[Change], difference: float) -> _Question:
    """Now and then the user wants to know the difference before they agree."""
    if shop.case.rng.random() > 0.3 or not tellable(abs(difference)):
        return _Question()
    line = "Before you agree, you want to know the exact price difference in total."
    terms = " + ".join(f"({money(c.target.price)} - {money(c.item.price)})" for c in changes)
    reads = (read("calculate", expression=terms),) if len(changes) > 1 else ()
    return _Question((line,), (money(abs(difference)),), reads)
