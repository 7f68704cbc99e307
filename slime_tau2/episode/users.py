"""User simulators: what speaks for the user in an episode.

`LLMUser` is tau2's own simulator (its prompt, roles and user tools) behind one shared OpenAI-compatible client.
`DomainUser` is the bundled domain's scripted user, `GoldUser` executes what a gold agent asks for, `PlainUser` states the
reason for the call and gives up after a few turns, on any domain.

A simulator that fails for good raises UserSimulatorError, which is infrastructure and never a reward of zero.
"""

from __future__ import annotations

import asyncio
import json
import os
import weakref
from typing import Any, Protocol

from slime_tau2 import bench
from slime_tau2.errors import ConfigError, UserSimulatorError

USER_TOOL, END = "@@USER_TOOL ", "@@END"  # what a gold agent says to have the user act, and to end


class User(Protocol):
    """Awaited by the driver whenever tau2's next receiver is the user."""

    def start(self, world: Any, task: Any, environment: Any, seed: int) -> None:
        """Once, before the conversation: who the user is."""

    async def respond(self, message: Any) -> Any:
        """The user's next message; `message` is the agent's text or this user's own tool results."""


def _say(text: str) -> Any:
    return bench.UserMessage(role="user", content=text, cost=0.0)


def _call(name: str, arguments: dict) -> Any:
    return bench.UserMessage(
        role="user", content=None, tool_calls=[bench.ToolCall(name=name, arguments=arguments, requestor="user")], cost=0.0
    )


class GoldUser:
    """Does what a gold agent asks, stops when it is told the end. Works on every domain."""

    def start(self, world: Any, task: Any, environment: Any, seed: int) -> None:
        pass

    async def respond(self, message: Any) -> Any:
        text = message.content if isinstance(message, bench.AssistantMessage) else None
        if text and text.startswith(USER_TOOL):
            asked = json.loads(text[len(USER_TOOL) :])
            return _call(asked["name"], asked["arguments"])
        if text and END in text:
            return _say(f"Thank you. {bench.STOP}")
        return _say("Hi, I need some help please." if text is not None else "I did that.")


class PlainUser:
    """States the reason for the call, then says `Please go on.` and stops after `turns` replies. Works on every domain."""

    def __init__(self, turns: int = 4):
        self.turns, self.said = turns, 0

    def start(self, world: Any, task: Any, environment: Any, seed: int) -> None:
        instructions = task.user_scenario.instructions
        self.reason = getattr(instructions, "reason_for_call", None) or str(instructions)

    async def respond(self, message: Any) -> Any:
        self.said += 1
        if self.said == 1:
            return _say(self.reason)
        return _say("Please go on." if self.said <= self.turns else f"Never mind. {bench.STOP}")


class DomainUser:
    """helpdesk's scripted user."""

    def start(self, world: Any, task: Any, environment: Any, seed: int) -> None:
        if world.domain != "helpdesk":
            raise ConfigError(f"tau2_user=scripted exists for helpdesk only, not {world.domain}; use llm, gold or plain")
        from slime_tau2.domains.helpdesk.tasks import facts_of
        from slime_tau2.domains.helpdesk.user import HelpdeskUser

        self.user = HelpdeskUser(facts_of(task), seed)

    async def respond(self, message: Any) -> Any:
        if isinstance(message, bench.AssistantMessage):
            return self.user.reply(message.content or "", [])
        parts = message.tool_messages if isinstance(message, bench.MultiToolMessage) else [message]
        return self.user.reply("", [p.content or "" for p in parts])


class UserClient:
    """One OpenAI-compatible server for all users of a process: own limiter, time-out and retries, per event loop.

    The key is read from the environment variable `key_env` and from nowhere else (invariant 8).
    """

    def __init__(self, base_url: str, model: str, key_env: str, concurrency: int, timeout_s: float, retries: int, options: dict[str, Any]):
        self.base_url, self.model, self.key_env, self.concurrency = base_url, model, key_env, concurrency
        self.timeout_s, self.retries, self.options = timeout_s, retries, options
        self._per_loop: weakref.WeakKeyDictionary[Any, tuple[Any, asyncio.Semaphore]] = weakref.WeakKeyDictionary()

    def _here(self) -> tuple[Any, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._per_loop:
            try:
                from openai import AsyncOpenAI
            except ImportError as error:
                raise ConfigError("an LLM user needs the openai package; run: pip install 'slime-tau2[eval]'") from error
            client = AsyncOpenAI(
                base_url=self.base_url, api_key=os.environ.get(self.key_env) or "none", timeout=self.timeout_s, max_retries=0
            )
            self._per_loop[loop] = client, asyncio.Semaphore(self.concurrency)
        return self._per_loop[loop]

    async def complete(self, messages: list[dict], tools: list[dict] | None, seed: int) -> tuple[str | None, list[tuple[str, dict]]]:
        """(text, tool calls) of one user turn; retries failures, empty replies and malformed arguments with back-off.

        Raises:
            UserSimulatorError: it failed `retries` + 1 times.
        """
        client, limiter = self._here()
        extra: dict[str, Any] = {"tools": tools, "tool_choice": "auto"} if tools else {}
        last = ""
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(min(0.5 * 2 ** (attempt - 1), 8.0))
            try:
                async with limiter, asyncio.timeout(self.timeout_s):
                    reply = await client.chat.completions.create(
                        model=self.model, messages=messages, seed=seed + attempt, **extra, **self.options
                    )
                said = reply.choices[0].message
                calls = [(c.function.name, _arguments(c.function.arguments)) for c in said.tool_calls or []]
                if calls or (said.content or "").strip():
                    return said.content, calls
                last = "an empty reply"
            except Exception as error:  # every kind of failure of a server is retried, then named
                last = f"{type(error).__name__}: {error}"
        raise UserSimulatorError(f"{self.model} at {self.base_url} failed {self.retries + 1} times, the last time with: {last}")

    async def close(self) -> None:
        client, _ = self._per_loop.pop(asyncio.get_running_loop(), (None, None))
        if client is not None:
            await client.close()


def _arguments(text: str) -> dict:
    value = json.loads(text or "{}")
    if not isinstance(value, dict):
        raise ValueError(f"tool arguments are {type(value).__name__}, not an object")
    return value


class LLMUser:
    """tau2's user simulator: it plays the user, so the roles are flipped in what its model sees."""

    def __init__(self, client: UserClient):
        self.client = client

    def start(self, world: Any, task: Any, environment: Any, seed: int) -> None:
        tools = bench.user_tools(environment, task)
        self.tools, self.seed = [t.openai_schema for t in tools] or None, seed
        self.messages: list[dict] = [{"role": "system", "content": bench.user_prompt(str(task.user_scenario), bool(tools))}]
        self.calls = 0

    async def respond(self, message: Any) -> Any:
        if isinstance(message, bench.AssistantMessage):
            self.messages.append({"role": "user", "content": message.content or ""})
        else:
            results = message.tool_messages if isinstance(message, bench.MultiToolMessage) else [message]
            offset = self.calls - len(results)
            for n, result in enumerate(results):
                self.messages.append({"role": "tool", "tool_call_id": f"u{offset + n}", "content": result.content or ""})
        text, calls = await self.client.complete(self.messages, self.tools, self.seed)
        made = [
            {"id": f"u{self.calls + n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(calls)
        ]
        self.calls += len(calls)
        self.messages.append({"role": "assistant", "content": text, **({"tool_calls": made} if made else {})})
        tool_calls = [bench.ToolCall(name=name, arguments=arguments, requestor="user") for name, arguments in calls]
        return bench.UserMessage(role="user", content=text, tool_calls=tool_calls or None, cost=0.0)
