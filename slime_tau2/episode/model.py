"""The policy, as an agent of one's own asks it: messages in, a completion out, and exact tokens on record.

The messages of a call are the whole conversation, as in OpenAI's chat completions. What was said before is never
rendered again: it is compared with what is on record, and only what is new behind it becomes ids (invariant 1). A
completion that comes back in the messages of the next call stands for the ids that were sampled, whatever their
spelling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, cast

from slime_tau2.episode import api_messages, thoughts
from slime_tau2.episode.api_messages import ApiMessage, BadMessage
from slime_tau2.episode.chat import ChatMessage, ChatRenderer, ToolSchema
from slime_tau2.episode.protocols import AgentTurn, Native
from slime_tau2.episode.recorder import Recorder, Sampled
from slime_tau2.errors import ConfigError
from slime_tau2.types import Transcript


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the policy said in one call.

    Attributes:
        text: as it was sampled, without the token that ended it.
        reasoning: what it thought, taken out of the text.
        message: as an assistant's message of OpenAI's. Append it to the messages of the next call.
        finish_reason: `stop`, `tool_calls`, or `length` where the caller's own `max_tokens` cut it.
        prompt_tokens: how many the policy had read; `completion_tokens`: how many it sampled.
    """

    text: str
    reasoning: str
    message: ApiMessage
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that is on record: its ids, its text read as a turn, and what the agent was given of it."""

    sampled: Sampled
    turn: AgentTurn
    completion: Completion


Deliver = Callable[[Completion], Awaitable[None]]


class Model:
    """The policy in one episode. Calls take turns: a second one waits for the first.

    Args:
        renderer: makes the renderer of a list of tools.
        tools: those of the domain.

    Attributes:
        turn: the calls since `begin_turn`.
        over: done when the episode has ended in a call: its result is what ended it, or its exception.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        renderer: Callable[[Sequence[ToolSchema] | None], ChatRenderer],
        tools: Sequence[ToolSchema],
        protocol: Native,
    ):
        self._recorder, self._renderer, self._protocol = recorder, renderer, protocol
        self.tools = list(tools)
        self.turn: list[Call] = []
        self.over: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self.context: Context = copy_context()
        """The episode's, where its usage is counted."""
        self.asking: set[asyncio.Task[Completion]] = set()
        """The calls that came over the endpoint and have no reply yet."""
        self._lock = asyncio.Lock()
        self._known: list[ChatMessage] = []  # what is on record, as the agent knows it
        self._read: list[ChatMessage] = []  # the same as the policy read and said it
        self._calls: list[tuple[int, int, int]] = []
        self._offered: list[ToolSchema] | None = None
        self._awaited = False  # the ledger ends with a prompt that has no reply yet

    async def complete(
        self,
        messages: Sequence[object],
        tools: Sequence[ToolSchema] | None = None,
        *,
        train: bool = True,
        max_tokens: int | None = None,
        deliver: Deliver | None = None,
    ) -> Completion:
        """Ask the policy.

        Args:
            messages: the whole conversation, each message as OpenAI's chat completions have it. It begins with that of
                the call before, and its reply.
            tools: what the policy is offered; None: the domain's. The first call decides.
            train: False keeps what is sampled here out of training.
            max_tokens: a bound of your own on this call. One that it cuts goes on as it is.
            deliver: awaited with the completion before it is recorded; where it raises, it is as if nothing had been
                sampled, and the same call can be made again.

        Raises:
            CancelledError: the episode has ended, here or before: its budget, its abort, a failure of the server, or
                messages that do not extend those on record. The driver knows; an agent has nothing to do.
        """
        if max_tokens is not None and max_tokens < 1:
            raise ConfigError(f"max_tokens = {max_tokens}: a call samples one token at least")
        async with self._lock:
            self._go_on()
            try:
                new = self._new([api_messages.of_template(m) for m in messages], tools)
                sampled = await self._recorder.call(
                    new, limit=max_tokens, trained=train, deliver=lambda s: self._deliver(s, deliver)
                )
            except BadMessage as error:
                self._end(ConfigError(f"tau2_agent: {error}"))
            except asyncio.CancelledError:
                raise
            except _Undelivered as error:
                raise error.cause from None
            except Exception as error:
                self._end(error)
            else:
                return self._recorded(sampled)
            self._go_on()
            raise AssertionError("an episode that has ended goes on")

    def begin_turn(self) -> None:
        """Forget the calls of the turn before."""
        self.turn = []

    def close(self) -> None:
        """End the episode for whoever still asks."""
        if not self.over.done():
            self.over.cancel()
        for task in self.asking:
            task.cancel()

    @property
    def recorder(self) -> Recorder:
        return self._recorder

    @property
    def transcript(self) -> Transcript | None:
        """What the ledger holds, for the audit; None before the first call."""
        if not self._read:
            return None
        messages = [cast(dict[str, Any], dict(message)) for message in self._read]
        return Transcript(messages, self._offered, list(self._calls))

    def _go_on(self) -> None:
        if self.over.done():
            raise asyncio.CancelledError("the episode has ended")

    def _end(self, how: Sampled | Exception) -> None:
        if isinstance(how, Sampled):
            self.over.set_result(how)
        else:
            self.over.set_exception(how)
            self.over.exception()  # looked at by the driver, or by nobody after an end of another kind

    def _new(self, asked: list[ChatMessage], tools: Sequence[ToolSchema] | None) -> list[ChatMessage]:
        """What is new. Raises NotExtended for what is not behind what is on record."""
        offered = list(self.tools if tools is None else tools) or None
        if not self._known:
            if not asked:
                raise BadMessage("a call without messages")
            self._recorder.chat, self._offered = self._renderer(offered), offered
            self._take(asked)
            return asked
        # Where segments go: what does not extend the record would begin the next one, as the first call above does.
        if offered != self._offered:
            raise NotExtended("it offers other tools than the call before")
        _check(self._known, asked)
        new = asked[len(self._known) :]
        if self._awaited:
            if new:
                raise NotExtended("the call before has no reply yet, and this one has more to say")
            return []
        if not new:
            raise NotExtended("nothing is new behind the last reply")
        self._take(new)
        return new

    def _take(self, messages: Sequence[ChatMessage]) -> None:
        self._known += messages
        self._read += messages
        self._awaited = True

    async def _deliver(self, sampled: Sampled, deliver: Deliver | None) -> None:
        self._go_on()  # a thread may have asked for it, which nobody could end with its episode
        if deliver is None or sampled.ended is not None:
            return
        try:
            await deliver(self._call(sampled).completion)
        except Exception as error:
            raise _Undelivered(error) from error

    def _recorded(self, sampled: Sampled) -> Completion:
        call = self._call(sampled)
        self.turn.append(call)
        if sampled.ids:
            self._awaited = False
            self._calls.append((sampled.segment, sampled.start, sampled.end))
            self._known.append(api_messages.of_template(call.completion.message))
            self._read.append({"role": "assistant", "content": self._recorder.chat.opening + call.completion.text})
        if sampled.ended is not None:
            self._end(sampled)
            self._go_on()
        return call.completion

    def _call(self, sampled: Sampled) -> Call:
        recorder = self._recorder
        text, ledger = sampled.text, recorder.segments[sampled.segment]
        whole = recorder.chat.opening + text
        turn = self._protocol.read(whole)
        message = turn.message
        calls = [
            api_messages.call(f"call_{recorder.calls}_{n}", one.name, one.arguments)
            for n, one in enumerate((message.tool_calls or []) if message is not None else [])
        ]
        said: ApiMessage = {"role": "assistant", "content": message.content if message is not None else ""}
        if calls:
            said["tool_calls"] = calls
        stopped = "tool_calls" if calls else "stop"
        completion = Completion(
            text=text,
            reasoning=thoughts.split(whole)[0],
            message=said,
            finish_reason="length" if sampled.finish_reason == "length" else stopped,
            prompt_tokens=ledger.prompt_length + sampled.start,
            completion_tokens=len(sampled.ids),
        )
        return Call(sampled=sampled, turn=turn, completion=completion)


class NotExtended(ConfigError):
    """A call whose messages do not extend those on record: one ledger cannot hold it."""

    def __init__(self, why: str):
        super().__init__(
            f"tau2_agent: a call does not extend the one before it: {why}. Its tokens cannot be recorded behind the "
            "others; send all earlier messages and replies unchanged, and what is new behind them (docs/extending.md)"
        )


class _Undelivered(Exception):
    def __init__(self, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause


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
