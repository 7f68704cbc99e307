"""How an agent and tau2 talk: what the policy reads, and what its text means.

`native` is Qwen's own tool format, the one its chat template renders: several calls per turn, or words to the user;
only the user ends the conversation. `card` is the format in which the model card's checkpoints were trained: exactly
one call per turn, `respond` to speak and `done` to end, tools as JSON in the system prompt, what is heard as `user: …`
and `tool: …`. The exact words of its prompt are not ours to ship: `tau2_agent_prompt` takes a file with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import thoughts, toolcalls
from slime_tau2.episode.chat import ChatCall, ChatFunction, ChatMessage, ChatRenderer, ToolSchema, chat_messages
from slime_tau2.errors import ConfigError, TemplateError
from slime_tau2.record import MessageRecord

RESPOND, DONE = "respond", "done"
LAST_WORD = bench.STOP
"""What tau2 itself writes in place of a `done`."""


@dataclass(frozen=True)
class AgentTurn:
    """What a turn's text means to tau2.

    Attributes:
        message: what tau2 takes; None for an empty turn.
        malformed: calls that could not be parsed.
        last: it ends the conversation.
        spans: [start, end) of each call of the message, in characters of the text that was read.
    """

    message: bench.AssistantMessage | None
    malformed: int = 0
    last: bool = False
    spans: tuple[tuple[int, int], ...] = ()


class Native:
    """Qwen's own format."""

    name = "native"
    stop_at_tool_call = False

    def template_tools(self, schemas: list[ToolSchema]) -> list[ToolSchema] | None:
        """What the chat template is given as `tools`."""
        return schemas

    def system_prompt(self, policy: str, schemas: Sequence[ToolSchema], template: Path | None) -> str:
        """tau2's, or the user's file with `{policy}` in it."""
        return bench.agent_prompt(policy) if template is None else _filled(template, policy, schemas)

    def chat(self, messages: Iterable[MessageRecord], thought: Mapping[int, str] | None = None) -> list[ChatMessage]:
        """tau2's messages (as JSON) in chat-template form.

        Args:
            thought: {index of a message of the assistant's: what it thought before it}.
        """
        return chat_messages(messages, thought)

    def check(self, chat: ChatRenderer) -> None:
        """See that a call as the template writes it is a call when it is read.

        Raises:
            TemplateError: the model was trained to call tools in another form.
        """
        asked: ChatMessage = {"role": "user", "content": "a"}
        call: ChatCall = {"type": "function", "function": {"name": "look", "arguments": {"a": "b"}}}
        called: ChatMessage = {"role": "assistant", "content": "", "tool_calls": [call]}
        text = chat.render([asked, called], chat.tools, False)
        written = text[text.rfind(toolcalls.OPEN) :] if toolcalls.OPEN in text else text[-120:]
        calls = [(c.name, c.arguments) for c in toolcalls.parse(written).calls]
        if "look" in text and calls != [("look", {"a": "b"})]:
            raise TemplateError(
                f"the chat template of {chat.tokenizer.name_or_path!r} has tools called in a form that is not read "
                f"here ({written[:120]!r}); use a model with Qwen3's form, or protocol=card, which asks for it"
            )

    def read(self, text: str) -> AgentTurn:
        """What a turn's text says, its thoughts left out."""
        _, words = thoughts.split(text)
        turn = toolcalls.parse(words)
        if turn.empty:
            return AgentTurn(None)
        spans = _moved(turn.spans, len(text) - len(words))
        return AgentTurn(_message(turn.text, turn.calls), sum(bool(c.error) for c in turn.calls), spans=spans)


class Card(Native):
    """The model card's format: one action per turn."""

    name = "card"
    stop_at_tool_call = True

    def template_tools(self, schemas: list[ToolSchema]) -> list[ToolSchema] | None:
        return None

    def system_prompt(self, policy: str, schemas: Sequence[ToolSchema], template: Path | None) -> str:
        return _filled(template or Path(__file__).with_name("card_prompt.txt"), policy, [*schemas, *_PSEUDO_TOOLS])

    def check(self, chat: ChatRenderer) -> None:
        """The form of a call is said in the prompt, whatever the template writes."""

    def chat(self, messages: Iterable[MessageRecord], thought: Mapping[int, str] | None = None) -> list[ChatMessage]:
        """tau2's messages (as JSON) in chat-template form.

        An assistant's words before the user's first are left out. Several calls of a turn are shown as several turns,
        each before its result; a thought stands before the first.
        """
        out: list[ChatMessage] = []
        waiting: list[ChatFunction] = []  # calls that are not shown yet
        for m in chat_messages(messages, thought):
            if m["role"] == "assistant":
                calls = [c["function"] for c in m.get("tool_calls", ())]
                waiting = calls or [_call(DONE) if m["content"] == LAST_WORD else _call(RESPOND, content=m["content"])]
                if out or calls:
                    out.append(_turn(waiting.pop(0)))
                    if "reasoning_content" in m:
                        out[-1]["reasoning_content"] = m["reasoning_content"]
                continue
            if m["role"] == "tool" and out and out[-1]["role"] == "user" and waiting:
                out.append(_turn(waiting.pop(0)))
            out.append({"role": "user", "content": f"{m['role']}: {m['content']}"})
        return out

    def read(self, text: str) -> AgentTurn:
        """Exactly one call; words beside it are the policy's thoughts."""
        _, words = thoughts.split(text)
        turn = toolcalls.parse(words)
        if turn.empty:
            return AgentTurn(None)
        spans = _moved(turn.spans or [(0, len(words))], len(text) - len(words))
        if len(turn.calls) != 1:
            return _malformed(f"{len(turn.calls)} tool calls in one turn, not 1", words, spans)
        (call,) = turn.calls
        if call.name == DONE:
            return AgentTurn(_message(LAST_WORD, []), last=True)
        if call.name != RESPOND:
            return AgentTurn(_message(None, [call]), bool(call.error), spans=spans)
        content = call.arguments.get("content")
        if not isinstance(content, str) or not content.strip():
            return _malformed("respond without a text as its content", words, spans)
        return AgentTurn(_message(content, []))


PROTOCOLS: dict[str, Native] = {p.name: p for p in (Native(), Card())}

_PSEUDO_TOOLS: list[ToolSchema] = [
    {
        "type": "function",
        "function": {
            "name": RESPOND,
            "description": "Say something to the user.",
            "parameters": {"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]},
        },
    },
    {
        "type": "function",
        "function": {
            "name": DONE,
            "description": "End the conversation.",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    },
]


def read_template(path: Path) -> str:
    """A prompt's file. Raises ConfigError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tau2_agent_prompt = {path}: {error}") from error


def _filled(template: Path, policy: str, schemas: Sequence[ToolSchema]) -> str:
    text = read_template(template).replace("{policy}", policy)
    return text.replace("{tools}", json.dumps(schemas, indent=2, ensure_ascii=False)).strip()


def _call(name: str, **arguments: Any) -> ChatFunction:
    return {"name": name, "arguments": arguments}


def _turn(call: ChatFunction) -> ChatMessage:
    return {
        "role": "assistant",
        "content": f"{toolcalls.OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{toolcalls.CLOSE}",
    }


def _message(text: str | None, calls: Sequence[toolcalls.ParsedCall]) -> bench.AssistantMessage:
    tool_calls = [bench.ToolCall(name=c.name, arguments=c.arguments) for c in calls]
    return bench.AssistantMessage(role="assistant", content=text, tool_calls=tool_calls or None, cost=0.0)


def _malformed(error: str, text: str, spans: Sequence[tuple[int, int]]) -> AgentTurn:
    whole = (spans[0][0], spans[-1][1])
    return AgentTurn(_message(None, [toolcalls.malformed(error, text)]), 1, spans=(whole,))


def _moved(spans: Iterable[tuple[int, int]], by: int) -> tuple[tuple[int, int], ...]:
    return tuple((start + by, end + by) for start, end in spans)
