"""The policy, as an agent of one's own asks it: messages in, a completion out, and exact tokens on record.

The messages of a call are the whole conversation, as in OpenAI's chat completions. What was said before is never
rendered again: it is compared with what is on record, and only what is new behind it becomes ids (invariant 1). A
completion that comes back in the messages of the next call stands for the ids that were sampled, whatever their
spelling. An agent that says so may hold several conversations in an episode: a call that extends none begins the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass

from slime_tau2.episode import api_messages, thoughts
from slime_tau2.episode.api_messages import ApiMessage, BadMessage
from slime_tau2.episode.chat import ChatMessage, ChatRenderer, ToolSchema
from slime_tau2.episode.on_record import NotExtended, OnRecord
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
        several: whether a call that extends no conversation begins one, and is no error.

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
        several: bool = False,
    ):
        self._recorder, self._renderer, self._protocol, self._several = recorder, renderer, protocol, several
        self.tools = list(tools)
        self.turn: list[Call] = []
        self.over: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self.context: Context = copy_context()
        """The episode's, where its usage is counted."""
        self.asking: set[asyncio.Task[Completion]] = set()
        """The calls that came over the endpoint and have no reply yet."""
        self._lock = asyncio.Lock()
        self._conversations: list[OnRecord] = []
        self._last: tuple[list[ChatMessage], list[ToolSchema] | None, Completion] | None = None

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
                an earlier call, and its reply, or is a new one where the agent may hold several.
            tools: what the policy is offered; None: the domain's. The first call of a conversation decides.
            train: False keeps what is sampled here out of training.
            max_tokens: a bound of your own on this call. One that it cuts goes on as it is.
            deliver: awaited with the completion before it is recorded; where it raises, it is as if nothing had been
                sampled, and the same call can be made again. Of a call that was just answered, the same again is
                given the same completion.

        Raises:
            CancelledError: the episode has ended, here or before: its budget, its abort, a failure of the server, or
                messages that do not extend those on record. The driver knows; an agent has nothing to do.
        """
        if max_tokens is not None and max_tokens < 1:
            raise ConfigError(f"max_tokens = {max_tokens}: a call samples one token at least")
        async with self._lock:
            self._go_on()
            try:
                asked = [api_messages.of_template(m) for m in messages]
                offered = list(self.tools if tools is None else tools) or None
                if deliver is not None and self._last is not None and self._last[:2] == (asked, offered):
                    await deliver(self._last[2])  # its reply was sent, and the client had hung up meanwhile
                    return self._last[2]
                conversation, new = self._found(asked, offered)
                conversation.take(new)
                sampled = await self._recorder.call(
                    conversation.record,
                    new,
                    limit=max_tokens,
                    trained=train,
                    deliver=lambda s: self._deliver(s, deliver),
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
                completion = self._recorded(conversation, sampled)
                self._last = asked, offered, completion
                return completion
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
    def transcripts(self) -> list[Transcript]:
        """What is on record, conversation by conversation, for the audit."""
        return [conversation.transcript() for conversation in self._conversations]

    def _go_on(self) -> None:
        if self.over.done():
            raise asyncio.CancelledError("the episode has ended")

    def _end(self, how: Sampled | Exception) -> None:
        if isinstance(how, Sampled):
            self.over.set_result(how)
        else:
            self.over.set_exception(how)
            self.over.exception()  # looked at by the driver, or by nobody after an end of another kind

    def _found(self, asked: list[ChatMessage], offered: list[ToolSchema] | None) -> tuple[OnRecord, list[ChatMessage]]:
        """The conversation that a call belongs to, the latest that it extends, and what is new. Raises NotExtended."""
        if not asked:
            raise BadMessage("a call without messages")
        for conversation in reversed(self._conversations):
            try:
                return conversation, conversation.behind(asked, offered)
            except NotExtended:
                if not self._several:
                    raise
        begun = OnRecord(record=self._recorder.conversation(self._renderer(offered)), offered=offered)
        self._conversations.append(begun)
        return begun, asked

    async def _deliver(self, sampled: Sampled, deliver: Deliver | None) -> None:
        self._go_on()  # a thread may have asked for it, which nobody could end with its episode
        if deliver is None or sampled.ended is not None:
            return
        try:
            await deliver(self._call(sampled).completion)
        except Exception as error:
            raise _Undelivered(error) from error

    def _recorded(self, conversation: OnRecord, sampled: Sampled) -> Completion:
        call = self._call(sampled)
        self.turn.append(call)
        if sampled.ids:
            said = conversation.record.chat.opening + call.completion.text
            conversation.answered(
                (sampled.segment, sampled.start, sampled.end),
                known=api_messages.of_template(call.completion.message),
                read={"role": "assistant", "content": said},
            )
        if sampled.ended is not None:
            self._end(sampled)
            self._go_on()
        return call.completion

    def _call(self, sampled: Sampled) -> Call:
        recorder = self._recorder
        text, ledger = sampled.text, recorder.segments[sampled.segment]
        whole = sampled.record.chat.opening + text
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


class _Undelivered(Exception):
    def __init__(self, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause
