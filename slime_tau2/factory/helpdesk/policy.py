"""The helpdesk's policy as named predicates."""

from __future__ import annotations

from slime_tau2.factory.rules import Rulebook

BOOK = Rulebook()
rule = BOOK.rule


@rule("Helpdesk", "the order or line is looked up first, by an id that is known")
def known(given: bool) -> bool:
    return given


@rule("Helpdesk", "a swap, a return and a refund are confirmed by the user")
def confirmed(agrees: bool) -> bool:
    return agrees


@rule("Swap", "what is pending is swapped, what has shipped is returned")
def swap_or_return(status: str) -> bool:
    return status in ("pending", "shipped")


@rule("Refund", "what is final is denied, and the user is told so")
def final_sale(seal: str) -> bool:
    return seal == "final"


@rule("Refund", "the full amount if sealed or gold, else half, and the user is told how much")
def amount(seal: str, tier: str) -> bool:
    return seal in ("sealed", "opened") and tier in ("basic", "gold")


@rule("Phone", "a suspended line is resumed")
def resumed(status: str) -> bool:
    return status == "suspended"


@rule("Phone", "the user toggles each setting that is wrong, and checks again")
def settings(checked: bool) -> bool:
    return checked
