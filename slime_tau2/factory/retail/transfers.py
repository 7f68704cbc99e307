"""What no action of the agent can do: the user is handed over to a person."""

from __future__ import annotations

from dataclasses import replace

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import ACCEPTS_A_PERSON, Call, Wish, hand_over, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.shop import Shop
from slime_tau2.factory.retail.words import noun, refer


def _transferred(case: Case, reason: str, *, what: str, calls: tuple[Call, ...], topic: str) -> Wish:
    return Wish(
        reason=reason,
        instructions=(case.rng.choice(ACCEPTS_A_PERSON),),
        calls=(*calls, hand_over(f"The user asks for {what}, which the agent has no action for.")),
        findings=(policy.in_scope(what),),
        outcome="transferred",
        topic=topic,
    )


def profile(case: Case) -> Wish | None:
    """A change of the profile for which there is no tool."""
    shop, rng = Shop(case), case.rng
    first, last = shop.user.name.first_name.lower(), shop.user.name.last_name.lower()
    number = rng.randint(100, 999)
    surname = rng.choice(("Baker", "Whitfield", "Marsh", "Okafor", "Lindqvist", "Duarte", "Holloway"))
    wants = (
        (
            "a new email address",
            f"You want to change the email address of your account to {first}.{last}{number}@example.org.",
        ),
        ("a new last name", f"You want to change your last name in your profile to {surname}, since you have married."),
        ("a new payment method", f"You want to add a new credit card to your account: a visa that ends in {number}1."),
        ("deletion of the account", "You want to have your account and all your data deleted."),
        ("more on a gift card", f"You want to load another {number} dollars on a gift card in your account."),
    )
    what, reason = rng.choice(wants)
    calls = (read("get_user_details", user_id=case.owner),) if rng.random() < 0.3 else ()
    return _transferred(case, reason, what=what, calls=calls, topic=reason)


def beyond(case: Case) -> Wish | None:
    """Something about an order for which there is no tool."""
    shop, rng = Shop(case), case.rng
    wants: list[tuple[str, str, str]] = [
        ("delivered", "a repair", "You want to have the {item} in {order} repaired: it stopped working."),
        ("delivered", "an invoice", "You want to have an invoice for {order} made out to your company."),
        ("processed", "a faster delivery", "You want to have {order} delivered by express, and would pay for it."),
        ("processed", "a delivery date", "You want to have {order} delivered on a Saturday, not during the week."),
        ("cancelled", "an undone cancellation", "You want the cancellation of {order} undone: you need it after all."),
        ("pending", "a gift wrap", "You want to have {order} wrapped as a gift, with a card in it."),
        ("pending", "a discount", "You want a discount on {order}: you have a voucher that you forgot to use."),
    ]
    pairs = [(order, want) for want in wants for order in shop.with_status(want[0])]
    if not pairs:
        return None
    order, (_, what, sentence) = rng.choice(pairs)
    reference = refer(shop, order, rng, "talk about")
    item = noun(rng.choice(order.items).name)
    wish = _transferred(
        case,
        sentence.format(order=reference.words, item=item),
        what=what,
        calls=reference.reads,
        topic=f"{what} {order.order_id}",
    )
    return replace(wish, facts=reference.facts, entities=frozenset({order.order_id}))


def undo(case: Case) -> Wish | None:
    """The user regrets a cancellation that has just been made. It comes up only afterwards."""
    cancelled = [order for order in Shop(case).orders if order.status == "cancelled" and case.touched(order.order_id)]
    if not cancelled:
        return None
    reason = "You want that cancellation undone after all: you find that you still need what was in the order."
    what = "an undone cancellation"
    wish = _transferred(case, reason, what=what, calls=(), topic=f"undo {cancelled[-1].order_id}")
    return replace(wish, entities=frozenset({cancelled[-1].order_id}), after=True)
