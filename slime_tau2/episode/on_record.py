"""A conversation on record: what an agent sent and was told, and whether what it sends next extends that.

Nothing is rendered again: a call is compared with what is on record, and what is new behind it is what is sent
(invariant 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from slime_tau2.episode.chat import ChatMessage, ToolSchema
from slime_tau2.episode.segments import Segments
from slime_tau2.errors import ConfigError
from slime_tau2.types import Transcript


class NotExtended(ConfigError):
    """A call whose messages do not extend those on record."""

    def __init__(self, why: str):
        super().__init__(
            f"tau2_agent: a call does not extend the one before it: {why}. Its tokens cannot be recorded behind the "
            "others; send all earlier messages and replies unchanged, and what is new behind them, or say of the agent "
            "that it holds `several_conversations` (docs/extending.md)"
        )


@dataclass(kw_only=True)
class OnRecord:
    """One conversation of an agent's with the policy, as far as it is on record.

    Attributes:
        offered: the tools.
        known: its messages as the agent knows them.
        read: the same as the policy read and said them.
        calls: (segment, start, end) of each.
        awaited: whether it ends with a prompt that has no reply yet.
    """

    record: Segments
    offered: list[ToolSchema] | None
    known: list[ChatMessage] = field(default_factory=list)
    read: list[ChatMessage] = field(default_factory=list)
    calls: list[tuple[int, int, int]] = field(default_factory=list)
    awaited: bool = False

    def behind(self, asked: list[ChatMessage], offered: list[ToolSchema] | None) -> list[ChatMessage]:
        """What is new in a call's messages. Raises NotExtended where they are not behind what is on record."""
        if offered != self.offered:
            raise NotExtended("it offers other tools than the call before")
        _check(self.known, asked)
        new = asked[len(self.known) :]
        if self.awaited and new:
            raise NotExtended("the call before has no reply yet, and this one has more to say")
        if not self.awaited and not new:
            raise NotExtended("nothing is new behind the last reply")
        return new

    def take(self, messages: Sequence[ChatMessage]) -> None:
        """They are being sent."""
        self.known += messages
        self.read += messages
        self.awaited = True

    def answered(self, place: tuple[int, int, int], *, known: ChatMessage, read: ChatMessage) -> None:
        """The reply: where its ids are (segment, start, end), as the agent knows it and as the policy said it."""
        self.calls.append(place)
        self.known.append(known)
        self.read.append(read)
        self.awaited = False

    def transcript(self) -> Transcript:
        """All of it, for the audit."""
        messages = [cast(dict[str, Any], dict(message)) for message in self.read]
        return Transcript(messages, self.offered, list(self.calls))


def _check(known: Sequence[ChatMessage], asked: Sequence[ChatMessage]) -> None:
    """Raises NotExtended where `asked` does not begin with `known`; says where."""
    for n, (before, now) in enumerate(zip(known, asked)):
        if not _same(before, now):
            raise NotExtended(f"message {n} was {_shown(before)} and is {_shown(now)}")
    if len(asked) < len(known):
        raise NotExtended(f"it has {len(asked)} messages, of {len(known)} that are on record")


def _same(before: ChatMessage, now: ChatMessage) -> bool:
    """Whether a message is the one on record. Some clients drop the words beside a call; the policy keeps them."""
    echoed = before.get("tool_calls") and {**now, "content": now["content"] or before["content"]}
    return (echoed or now) == before


def _shown(message: Mapping[str, Any]) -> str:
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", ())]
    text = f"{message['role']}: {message['content']!r}"[:160]
    return f"({text}{f' with calls {calls!r}'[:160] if calls else ''})"
