"""A conversation as one script for both sides, and the agent and the user that play it in an episode.

A script is a generator of moves. It sees the result of every call before it goes on, so that what the agent says is
made of what the tools returned. Agent and user of one episode share a `Stage`, which hands each of them its moves.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from slime_tau2 import bench
from slime_tau2.episode.agents import AgentAction, parts
from slime_tau2.episode.world import World
from slime_tau2.errors import FactoryError
from slime_tau2.factory.draft import Call
from slime_tau2.ledger import TokenLedger


@dataclass(frozen=True)
class Say:
    """The agent speaks."""

    text: str


@dataclass(frozen=True)
class Answer:
    """The user speaks."""

    text: str


@dataclass(frozen=True)
class Use:
    """Whoever the call's requestor is uses a tool; the script gets a `Result`."""

    call: Call


@dataclass(frozen=True)
class Result:
    """What a tool returned."""

    text: str
    error: bool


Move = Say | Answer | Use
T = TypeVar("T")
Script = Generator[Move, Result | None, T]
"""A part of a conversation, which comes to a T."""


class Stage:
    """Where one script is played. It ends with the user's last move."""

    def __init__(self, script: Script[None]):
        self._script = script
        self._last: Move | None = None

    def next(self, requestor: bench.Requestor, message: bench.Delivered) -> Move:
        """The next move of one side.

        Args:
            message: what that side has just heard.

        Raises:
            FactoryError: it is the other side's turn, or the script is over.
        """
        try:
            move = next(self._script) if self._last is None else self._script.send(_result(self._last, message))
        except StopIteration:
            raise FactoryError(f"the script is over, and the {requestor} is asked to go on") from None
        owner = move.call.requestor if isinstance(move, Use) else "assistant" if isinstance(move, Say) else "user"
        if owner != requestor:
            raise FactoryError(f"it is the {requestor}'s turn, and the script has {move}")
        self._last = move
        return move


def _result(move: Move, message: bench.Delivered) -> Result | None:
    if not isinstance(move, Use):
        return None
    results = parts(message)
    text = "\n".join(result.content or "" for result in results)
    return Result(text, any(isinstance(result, bench.ToolMessage) and result.error for result in results))


def _calls(move: Move) -> list[bench.ToolCall] | None:
    if not isinstance(move, Use):
        return None
    call = move.call
    return [bench.ToolCall(id="", name=call.name, arguments=dict(call.arguments), requestor=call.requestor)]


class StageAgent:
    """The agent of a stage: one call per turn, and no words beside it."""

    segments: Sequence[TokenLedger] = ()

    def __init__(self, stage: Stage):
        self.stage = stage

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        move = self.stage.next("assistant", message)
        text = move.text if isinstance(move, Say) else None
        reply = bench.AssistantMessage(role="assistant", content=text, tool_calls=_calls(move), cost=0.0)
        return AgentAction(reply, text=text or "")


class StageUser:
    """The user of a stage."""

    def __init__(self, stage: Stage):
        self.stage = stage

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        """Nothing: the script knows who the user is."""

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        move = self.stage.next("user", message)
        text = move.text if isinstance(move, Answer) else None
        return bench.UserMessage(role="user", content=text, tool_calls=_calls(move), cost=0.0)


def use(call: Call) -> Script[Result]:
    """Use a tool."""
    result: Any = yield Use(call)
    assert isinstance(result, Result), "a stage answers every call"
    return result
