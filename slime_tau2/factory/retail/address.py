"""Change where a pending order goes, and the user's default address."""

from __future__ import annotations

import random
from dataclasses import dataclass

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.shop import Address, Order, Shop
from slime_tau2.factory.retail.words import Reference, address_words, refer, search
from slime_tau2.factory.stories import remembered

STREETS = (
    "Alder Street, Birchwood Lane, Canal Street, Dogwood Court, Eastgate Road, Foxglove Way, Garnet Avenue, "
    "Harbor View Drive, Ivy Lane, Juniper Street, Kingfisher Road, Linden Avenue, Mulberry Street, Northfield Road, "
    "Orchard Lane, Quarry Road, Rosewood Drive, Saddle Creek Road, Thornhill Avenue, Union Street, Violet Court, "
    "Walnut Grove Road, Yarrow Street"
).split(", ")
PLACES = (
    "Albany NY 12207, Boise ID 83702, Burlington VT 05401, Charleston SC 29401, Des Moines IA 50309, Duluth MN 55802, "
    "Eugene OR 97401, Fargo ND 58102, Knoxville TN 37902, Lincoln NE 68508, Madison WI 53703, Mobile AL 36602, "
    "Portland ME 04101, Providence RI 02903, Reno NV 89501, Santa Fe NM 87501, Savannah GA 31401, Spokane WA 99201, "
    "Tulsa OK 74103, Wichita KS 67202"
).split(", ")
"""City, state and zip code."""


@dataclass(kw_only=True)
class NewAddress:
    """An address that nobody in the database has."""

    address1: str
    address2: str
    city: str
    state: str
    zip: str
    country: str = "USA"


def invented(rng: random.Random) -> NewAddress:
    """An address by chance."""
    city, state, zip_code = rng.choice(PLACES).rsplit(" ", 2)
    unit = rng.choice(("Apt", "Suite", "Unit"))
    return NewAddress(
        address1=f"{rng.randint(11, 989)} {rng.choice(STREETS)}",
        address2=f"{unit} {rng.randint(2, 96)}",
        city=city,
        state=state,
        zip=zip_code,
    )


def address_call(tool: str, key: str, value: str, address: Address) -> Call:
    """The write that puts an address somewhere."""
    fields = ("address1", "address2", "city", "state", "country", "zip")
    return Call(name=tool, write=True, arguments={key: value} | {field: getattr(address, field) for field in fields})


def sent_to(order: Order, address: Address) -> Call:
    """The write that sends an order elsewhere."""
    return address_call("modify_pending_order_address", "order_id", order.order_id, address)


def same_place(one: Address, other: Address) -> bool:
    """Whether two addresses are the same, field by field."""
    return address_words(one) == address_words(other)


def order_address(case: Case) -> Wish | None:
    """A pending order goes elsewhere: to a new address, or to the default one."""
    shop, rng = Shop(case), case.rng
    pending = shop.with_status("pending")
    if not pending:
        return None
    order = rng.choice(pending)
    return elsewhere(case, shop, order, refer(shop, order, rng, "send elsewhere"))


def elsewhere(case: Case, shop: Shop, order: Order, reference: Reference) -> Wish:
    """The wish that one order goes elsewhere.

    Args:
        reference: how the user speaks of the order.
    """
    rng = case.rng
    home: Address = shop.user.address
    moved = any(call.name == "modify_user_address" for wish in case.wishes for call in wish.calls)
    if not moved and not same_place(home, order.address) and rng.random() < 0.6:
        return Wish(
            reason=f"You want to have {reference.words} sent to your default address instead of where it goes now.",
            facts=reference.facts,
            calls=(*reference.reads, read("get_user_details", user_id=case.owner), sent_to(order, home)),
            findings=(*policy.own(shop, order), policy.modify_pending(order), policy.modify_only("address")),
            entities=frozenset({order.order_id}),
            sensitive=frozenset({case.owner}),
        )
    address: Address = invented(rng)
    fact = Fact("the new address", f"The new address for that order is {address_words(address)}.")
    return Wish(
        reason=rng.choice(
            (
                f"You want to change the shipping address of {reference.words}.",
                f"You want to have {reference.words} sent to another address.",
            )
        ),
        about="the order's address",
        facts=(*reference.facts, remembered(rng, fact, at_once=0.35)),
        calls=(*reference.reads, sent_to(order, address)),
        findings=(*policy.own(shop, order), policy.modify_pending(order), policy.modify_only("address")),
        entities=frozenset({order.order_id}),
    )


def user_address(case: Case) -> Wish | None:
    """The default address changes; now and then all pending orders go there too."""
    shop, rng = Shop(case), case.rng
    if any(case.owner in wish.entities | wish.sensitive for wish in case.wishes):
        return None
    pending = [order for order in shop.orders if order.status == "pending"]
    with_orders = bool(pending) and not any(map(case.touched, shop.user.orders)) and rng.random() < 0.5
    quiet = [order for order in shop.orders if not case.touched(order.order_id)]
    elsewhere_now = [order for order in quiet if not same_place(order.address, shop.user.address)]
    sensitive: frozenset[str] = frozenset()
    if elsewhere_now and not with_orders and rng.random() < 0.5:
        order = rng.choice(elsewhere_now)
        reference = refer(shop, order, rng, "take the address from")
        goes = "goes" if order.status == "pending" else "went"
        reason = f"You want your default address to be the one to which {reference.words} {goes}."
        sensitive = frozenset({order.order_id})
        address, facts, reads = order.address, reference.facts, list(reference.reads)
    else:
        address = invented(rng)
        fact = Fact("the new address", f"Your new address is {address_words(address)}.")
        facts, reads = (remembered(rng, fact, at_once=0.4),), []
        reason = rng.choice(
            (
                "You want to change the default address in your profile.",
                "You want to update your address: you have moved.",
            )
        )
    changed: list[Order] = []
    if with_orders:
        changed = pending
        reads += search(shop, shop.orders[-1])
        facts = (*facts, Fact("the order numbers", "", Told.FORGOTTEN))
        also = "all your orders that are still pending" if len(pending) > 1 else "your order that is still pending"
        reason = f"You want to change the default address in your profile, and {also} should go to the new address too."
    return Wish(
        reason=reason,
        about="your default address",
        facts=facts,
        calls=(
            *reads,
            address_call("modify_user_address", "user_id", case.owner, address),
            *(sent_to(order, address) for order in changed),
        ),
        findings=(
            policy.confirmed(True),
            policy.in_scope("default address"),
            *(
                finding
                for order in changed
                for finding in (policy.modify_pending(order), policy.modify_only("address"))
            ),
        ),
        entities=frozenset({case.owner, *sensitive, *(order.order_id for order in changed)}),
        sensitive=sensitive,
    )
