"""An agent of somebody's own, named by import path: its prompts, memory and planning over our policy's exact tokens.

The driver awaits `OwnAgent`, which hands the agent what it hears, waits for its answer or for the end of the episode
within one of its calls, and says which ids the answer came from.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import api_messages
from slime_tau2.episode.agents import AgentAction, parts
from slime_tau2.episode.api_messages import ApiMessage
from slime_tau2.episode.chat import ChatRenderer, ToolSchema
from slime_tau2.episode.model import Call, Completion, Model
from slime_tau2.episode.openai_endpoint import Access, OpenAIEndpoint
from slime_tau2.episode.protocols import Native
from slime_tau2.episode.recorder import Recorder, Sampled, acted
from slime_tau2.episode.scaffolds import Answer, Brief, Factory, Scaffold, factory, several
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.ledger import TokenLedger
from slime_tau2.terminations import Termination
from slime_tau2.types import Transcript

log = logging.getLogger(__name__)
CLOSE_S = 5.0
"""Seconds that an agent's `close` may take. Its episode has ended, so that no other deadline would."""
MOST_RENDERERS = 64
"""Lists of tools whose renderers are kept; an agent that offers other tools in each episode would fill the memory."""


class OwnAgents:
    """What the agents of a process share: how one is made, the renderers, and an endpoint for each event loop.

    Args:
        renderer: makes the renderer of a list of tools.

    Raises:
        ConfigError: there is no such agent, or the protocol is not its.
    """

    def __init__(self, path: str, renderer: Callable[[Sequence[ToolSchema] | None], ChatRenderer], protocol: Native):
        if type(protocol) is not Native:
            raise ConfigError(
                f"tau2_agent = {path}: an agent of your own writes its prompts itself, and calls tools in the model's "
                f"own format; leave out tau2_protocol = {protocol.name}"
            )
        self._make, self._renderer, self._protocol = factory(path), renderer, protocol
        self.several = several(self._make)
        self._renderers: dict[str, ChatRenderer] = {}
        self._endpoints: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, OpenAIEndpoint] = (
            weakref.WeakKeyDictionary()
        )

    def agent(
        self, recorder: Recorder, world: World, *, system_prompt: str, task_id: str | None, seed: int
    ) -> OwnAgent:
        """An agent for one episode."""
        brief = Brief(
            domain=world.name,
            policy=world.policy_for(task_id),
            system_prompt=system_prompt,
            tools=copy.deepcopy(world.tool_schemas),  # an agent may change what is its own
            seed=seed,
            access=Access(self._endpoint),
        )
        make = functools.partial(
            Model,
            recorder,
            renderer=self._rendered,
            tools=world.tool_schemas,
            protocol=self._protocol,
            several=self.several,
        )
        return OwnAgent(self._make, brief, make)

    def _rendered(self, tools: Sequence[ToolSchema] | None) -> ChatRenderer:
        key = json.dumps(tools)
        if key not in self._renderers:
            if len(self._renderers) > MOST_RENDERERS:
                self._renderers.clear()
            self._renderers[key] = self._renderer(tools)
        return self._renderers[key]

    def _endpoint(self) -> OpenAIEndpoint:
        loop = asyncio.get_running_loop()
        if loop not in self._endpoints:
            self._endpoints[loop] = OpenAIEndpoint()
        return self._endpoints[loop]

    async def close(self) -> None:
        """Close this event loop's endpoint."""
        endpoint = self._endpoints.pop(asyncio.get_running_loop(), None)
        if endpoint is not None:
            await endpoint.close()


class OwnAgent:
    """One episode's. The scaffold is made with its first turn, within the episode, where its errors belong."""

    def __init__(self, make: Factory, brief: Brief, model: Callable[[], Model]):
        self._make, self._brief, self._new_model = make, brief, model
        self._model: Model | None = None
        self._scaffold: Scaffold | None = None
        self._sent: tuple[bench.AssistantMessage, list[str]] | None = None

    @property
    def segments(self) -> Sequence[TokenLedger]:
        return () if self._model is None else self._model.recorder.segments

    @property
    def transcripts(self) -> list[Transcript]:
        return [] if self._model is None else self._model.transcripts

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        if self._model is None or self._scaffold is None:
            self._model = self._new_model()
            self._brief.access.open(self._model)
            self._scaffold = self._make(self._model, self._brief)
            heard = api_messages.heard(history)
        else:
            heard = self._known_ids(api_messages.heard(parts(message)))
        model = self._model
        model.begin_turn()
        acting = _started(self._scaffold.act, heard)
        try:
            await asyncio.wait({acting, model.over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            acting.cancel()
        if model.over.done():
            return _over(model, model.over.result())
        if acting.cancelled():
            raise RuntimeError("the agent cancelled its own turn")
        return self._answered(model, await acting)

    async def close(self) -> None:
        """The episode has ended: nothing more is recorded of it. Whatever the agent's own `close` does is logged."""
        if self._model is not None:
            self._model.close()
            self._brief.access.close()
        close = getattr(self._scaffold, "close", None)
        if close is None:
            return
        closing = asyncio.ensure_future(_closed(close))
        try:
            # asyncio.timeout would wait for one that swallows its cancellation
            await asyncio.wait({closing}, timeout=CLOSE_S)
        finally:
            closing.cancel()
        if not closing.done():
            log.error("the agent's close did not end within %s s", CLOSE_S)
        elif closing.cancelled():
            log.error("the agent's close cancelled itself")
        elif (error := closing.exception()) is not None:
            log.error("the agent's close failed", exc_info=error)

    def _answered(self, model: Model, said: Answer) -> AgentAction:
        """What the answer means, and which ids it came from."""
        call = _source(model.turn, said)
        told, ids = _told(call, said)
        text = "\n".join(one.completion.text for one in model.turn) or (told.content if told is not None else "") or ""
        if told is None or not (told.tool_calls or (told.content or "").strip()):
            return _acted(model, None, text=text, termination=Termination.AGENT_ERROR, detail="an empty turn")
        malformed = call.turn.malformed if call is not None else 0
        self._sent = told, ids
        spans = model.recorder.spans(call.sampled, call.turn) if call is not None else ()
        return _acted(model, told, text=text, malformed=malformed, spans=spans)

    def _known_ids(self, heard: list[ApiMessage]) -> list[ApiMessage]:
        """Results under the ids by which the agent knows its calls; tau2 was told others."""
        if self._sent is not None:
            told, ids = self._sent
            own = {call.id: own_id for call, own_id in zip(told.tool_calls or [], ids) if own_id}
            for message in heard:
                if message["role"] == "tool":
                    message["tool_call_id"] = own.get(message["tool_call_id"], message["tool_call_id"])
        return heard


def _source(turn: Sequence[Call], said: Answer) -> Call | None:
    """The call of this turn that the answer is, word for word; None where the agent made it up."""
    for call in reversed(turn):
        if said is call.completion:
            return call
    if isinstance(said, bench.AssistantMessage | Completion):
        return None
    try:
        given = api_messages.of_template({"role": "assistant", "content": said} if isinstance(said, str) else said)
    except api_messages.BadMessage:
        return None
    return next((c for c in reversed(turn) if api_messages.of_template(c.completion.message) == given), None)


def _told(call: Call | None, said: Answer) -> tuple[bench.AssistantMessage | None, list[str]]:
    """The answer as tau2 takes it, None where it is empty, and the ids by which the agent knows its calls."""
    if call is not None:
        return call.turn.message, [c["id"] for c in call.completion.message.get("tool_calls", ())]
    try:
        return api_messages.answer(said)
    except api_messages.BadMessage as error:
        raise ConfigError(f"tau2_agent: its answer will not do: {error}") from error


def _acted(model: Model, message: bench.AssistantMessage | None, **more: Any) -> AgentAction:
    if not model.turn:  # the agent spoke without the policy
        segments = model.recorder.segments
        at = segments[-1].response_length if segments else 0
        return AgentAction(message, segment=max(len(segments) - 1, 0), start=at, end=at, thought=at, **more)
    return acted([call.sampled for call in model.turn], message, **more)


def _over(model: Model, how: Sampled) -> AgentAction:
    """The episode ended in a call, the last of the turn."""
    text = "\n".join(call.completion.text for call in model.turn)
    return _acted(model, None, text=text, termination=how.ended, detail=how.detail)


async def _closed(close: Callable[[], Any]) -> None:
    done = await _started(close)
    if inspect.isawaitable(done):
        await done


def _started(method: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """A call of the agent's: in this loop where it is a coroutine's, else in a thread, so that it holds up nobody."""
    if inspect.iscoroutinefunction(method):
        call: asyncio.Task[Any] = asyncio.ensure_future(method(*arguments))
        return call
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        try:
            result, error = context.run(method, *arguments), None
        except Exception as raised:
            result, error = None, raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop has ended, and with it the episode
            pass

    # a daemon of its own: one that hangs in a client must hold up neither other episodes nor the end of the process
    threading.Thread(target=run, name="tau2-agent", daemon=True).start()
    return done
