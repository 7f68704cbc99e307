"""User simulators: what speaks for the user in an episode.

`LLMUser` is tau2's own simulator (its prompt, roles and user tools) behind one shared OpenAI-compatible client.
`DomainUser` is the scripted user of a domain that has one, `GoldUser` executes what a gold agent asks for, `PlainUser`
states the reason for the call and gives up after a few turns, on any domain.

A simulator that fails for good raises UserSimulatorError, which is infrastructure and never a reward of zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from slime_tau2 import bench, plugins, traits
from slime_tau2.episode.agents import parts
from slime_tau2.episode.openai_chat import ChatClient, ChatReply, message_bytes
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError

USER_TOOL, END = "@@USER_TOOL ", "@@END"  # what a gold agent says to have the user act, and to end
GREETING = "Hi, I need some help please."  # all that a gold user ever asks


class User(Protocol):
    """Awaited by the driver whenever tau2's next receiver is the user."""

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        """Called once, before the conversation: says who the user is.

        Args:
            history: what the user has said and heard before.
        """

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        """The user's next message.

        Args:
            message: the agent's words, or the results of this user's own calls.

        Raises:
            UserSimulatorError: there is no usable message.
        """


def _say(text: str) -> bench.UserMessage:
    return bench.UserMessage(role="user", content=text, cost=0.0)


def _call(name: str, arguments: dict[str, Any]) -> bench.UserMessage:
    return bench.UserMessage(
        role="user",
        content=None,
        tool_calls=[bench.ToolCall(name=name, arguments=arguments, requestor="user")],
        cost=0.0,
    )


class GoldUser:
    """Does what a gold agent asks, stops when it is told the end. Works on every domain."""

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        pass

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        text = message.content if isinstance(message, bench.AssistantMessage) else None
        if text and text.startswith(USER_TOOL):
            call = json.loads(text[len(USER_TOOL) :])
            return _call(call["name"], call["arguments"])
        if text and END in text:
            return _say(f"Thank you. {bench.STOP}")
        return _say(GREETING if text is not None else "I did that.")


class PlainUser:
    """States the reason for the call, says `Please go on.`, stops after `turns` replies. Works on every domain."""

    def __init__(self, turns: int = 4):
        self.turns = turns
        self.replies = 0

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        instructions = task.user_scenario.instructions
        self.reason: str = getattr(instructions, "reason_for_call", None) or str(instructions)

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        self.replies += 1
        if self.replies == 1:
            return _say(self.reason)
        return _say("Please go on." if self.replies <= self.turns else f"Never mind. {bench.STOP}")


class DomainUser:
    """The scripted user that a domain brings (`Traits.scripted_user`); helpdesk has one."""

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        self.user: User = plugins.load(scripted_user(world.domain), f"scripted_user of {world.domain}")()
        self.user.start(world, task, environment, history, seed)

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        return await self.user.respond(message)


def scripted_user(domain: str) -> str:
    """The import path of a domain's scripted user.

    Raises:
        ConfigError: the domain has none.
    """
    path = traits.of(domain).scripted_user
    if not path:
        only = traits.domains_with(lambda t: t.scripted_user)
        raise ConfigError(f"tau2_user=scripted exists for {only} only, not {domain}; use llm, gold or plain")
    return path


class LLMUser:
    """tau2's user simulator: it plays the user, so the roles are flipped in what its model sees.

    Each message is serialised when it is said, the tools once per domain.

    Attributes:
        client: its `failure` is UserSimulatorError.
        routing_key: keeps a conversation on one of several servers, which has its beginning in the cache;
            `Harness.user` sets it.
    """

    routing_key: str | None = None

    def __init__(self, client: ChatClient):
        self.client = client

    def start(
        self,
        world: World,
        task: bench.Task,
        environment: bench.Environment,
        history: Sequence[bench.Message],
        seed: int,
    ) -> None:
        self.tools = world.user_tool_schemas(task, environment)
        self.seed = seed
        self.calls = 0
        self.answered = 0
        self.messages: list[bytes] = []
        self.hears({"role": "system", "content": bench.user_prompt(world.scenario(task), self.tools is not None)})
        for message in history:
            if isinstance(message, bench.UserMessage):
                calls = tuple((c.name, c.arguments) for c in message.tool_calls or [])
                self._replied(ChatReply(message.content, calls=calls))
            else:
                self._delivered(message)

    async def respond(self, message: bench.Delivered) -> bench.UserMessage:
        self._delivered(message)
        reply = await self.client.complete(self.messages, self.tools, self.seed, routing_key=self.routing_key)
        self._replied(reply)
        calls = [bench.ToolCall(name=name, arguments=arguments, requestor="user") for name, arguments in reply.calls]
        return bench.UserMessage(role="user", content=reply.text, tool_calls=calls or None, cost=0.0)

    def _delivered(self, message: bench.Delivered) -> None:
        """The agent's words, or the results of the user's own last calls."""
        if isinstance(message, bench.AssistantMessage):
            self.hears({"role": "user", "content": message.content or ""})
            return
        for result in parts(message):  # tau2 answers the calls in order
            self.hears({"role": "tool", "tool_call_id": f"u{self.answered}", "content": result.content or ""})
            self.answered += 1

    def _replied(self, reply: ChatReply) -> None:
        calls = [
            {
                "id": f"u{self.calls + n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for n, (name, arguments) in enumerate(reply.calls)
        ]
        self.calls += len(calls)
        self.hears({"role": "assistant", "content": reply.text, **({"tool_calls": calls} if calls else {})})

    def hears(self, message: dict[str, Any]) -> None:
        """Append a message of the chat, as `/chat/completions` takes it, to what the model sees."""
        self.messages.append(message_bytes(message))

    def _hears(self, message: dict[str, Any]) -> None:
        """The name of `hears` up to version 0.2, for simulators that still call it."""
        self.hears(message)
