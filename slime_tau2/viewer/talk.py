"""What the conversation view (`talk.js`) reads: a conversation, with whatever is known of its turns, calls and tokens.

Evaluations and training runs fill the same shapes. A key that is `NotRequired` is left out where nothing is known, and
the view then shows nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict  # as elsewhere in the package

from slime_tau2.viewer.blocks import Texts


class Tokens(TypedDict):
    """The tokens of a turn, column by column."""

    text: list[str]
    sampler: list[float]
    """Log-prob of each where it was sampled."""
    trainer: NotRequired[list[float]]
    """Log-prob of each in the trainer."""
    advantage: NotRequired[list[float]]


class Mark(TypedDict):
    """What is known of a turn of the agent."""

    index: int
    """Which turn, from 0: what a link calls it."""
    partial: float | None
    """The strict partial score once everything that followed has happened."""
    gain: float | None
    """What the turn added to it."""
    malformed: int
    advantage: NotRequired[float]
    tokens: NotRequired[Tokens]
    notes: NotRequired[list[str]]
    """Whatever else is to be said of the turn, in a few words each."""


class Call(TypedDict):
    """A tool call."""

    name: str
    arguments: dict[str, Any]
    gain: NotRequired[float]
    """What the call added to the partial score."""
    wrong: NotRequired[str]
    """What a check found wrong with it."""
    advantage: NotRequired[float]


class Message(TypedDict):
    """A message as it was said."""

    role: str
    """`assistant`, `user`, `tool` or `system`."""
    by: str
    """Who spoke, or made the call that a tool answers; `unsent`: a turn that tau2 never read."""
    text: str
    calls: list[Call]
    error: bool
    thought: NotRequired[str]
    turn: NotRequired[Mark]


class Check(TypedDict):
    """Something that was asked of the conversation."""

    met: bool
    kind: str
    what: str
    counts: bool
    """Whether the reward asks for it."""
    at: int | None
    """Index of the message that met or missed it; None where no message did."""


class Fault(TypedDict):
    """What is proven of whose fault it was."""

    party: str
    what: str
    at: int | None


class Place(TypedDict):
    """A place in which the databases at the end are not as the solution leaves them."""

    where: str
    """Whose database, table, key and the path within the row."""
    found: str | None
    """What is there; None: nothing."""
    wanted: str | None
    """What the solution leaves there; None: nothing."""


class Difference(TypedDict):
    """The end state beside the solution's."""

    total: int
    """Places that differ."""
    places: list[Place]
    """The first of them."""
    counts: bool
    """Whether the reward asks for the databases."""


class Talk(TypedDict):
    """A conversation as the view shows it."""

    messages: list[Message]
    checks: list[Check]
    faults: list[Fault]
    facts: list[tuple[str, str]]
    """(name, value) of what else is known of it: its end, tokens, cost."""
    database: NotRequired[Difference]


def block(talks: Sequence[Talk]) -> dict[str, Any]:
    """Conversations as a block's JSON, each text of a message once."""
    texts = Texts()
    packed = [
        {**talk, "messages": [{**message, "text": texts.place(message["text"])} for message in talk["messages"]]}
        for talk in talks
    ]
    return {"texts": texts.table, "talks": packed}
