"""Cases: what the user of a long conversation wants, request by request.

One customer has three to six requests over its orders and its phone. It tells them one after the other, some two at a
time; later ones lean on what came before. A task carries them as its scenario's notes. Tasks: `factory.helpdesk.cases`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from slime_tau2.bench import Task

REQUESTS, IDENTS = "requests", "idents"
"""Keys of the notes."""
Kind = Literal["swap", "refund", "phone"]
Refused = Literal["return", "keep", "refund"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One thing that the customer wants.

    Attributes:
        kind: what is to be done.
        ident: the order; for a phone its line, or the order that the line belongs to.
        called: how the user names the order or line, such as "the lamp order".
        item: what is swapped in.
        item_called: how the user names the item.
        second_item: what the user wants instead when asked to confirm; "" for no change of mind.
        when_low: what the user wants instead of `item` if the amount that it was told last is below `at_least`.
        at_least: such as "$30"; "" if no amount decides.
        refused: what the user wants where the order cannot be swapped: nothing more ("keep"), its money ("refund"), or
            the return that is offered ("return").
        with_previous: told in one message with the request before.
    """

    kind: Kind
    ident: str
    called: str
    item: str = ""
    item_called: str = ""
    second_item: str = ""
    when_low: str = ""
    at_least: str = ""
    refused: Refused = "return"
    with_previous: bool = False


def notes(requests: Sequence[Request], idents: Sequence[str]) -> dict[str, Any]:
    """What a case's notes hold.

    Args:
        idents: all orders and lines of the customer.
    """
    return {REQUESTS: [asdict(request) for request in requests], IDENTS: list(idents)}


def read(task: Task) -> tuple[list[Request], list[str]] | None:
    """A case's requests, and all orders and lines of its customer; None where a task is no case."""
    found: Mapping[str, Any] = json.loads((task.description.notes if task.description else None) or "{}")
    if REQUESTS not in found:
        return None
    return [Request(**request) for request in found[REQUESTS]], list(found[IDENTS])
