"""Chat template -> token ids, one delta at a time.

A conversation is never rendered twice. The first turn renders the prompt; every later turn renders only what is new
(the user's words, tool results) behind a stand-in conversation and keeps what the template added, starting right after
the `<|im_end|>` that the policy sampled. The policy's own output is never decoded and encoded again (invariant 1).

This needs a template that does not rewrite history: one that drops earlier thinking blocks is refused at start.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict

from slime_tau2.episode.token_spans import TokenSpans
from slime_tau2.errors import TemplateError
from slime_tau2.ledger import Ids
from slime_tau2.record import MessageRecord
from slime_tau2.tokenizer import Tokenizer

END_OF_TURN = "<|im_end|>"
AWAITED = "<|im_start|>assistant\n"  # how the template begins a turn of the policy's

ToolSchema: TypeAlias = dict[str, Any]
"""{"type": "function", "function": {name, description, parameters}}: a tool as a model is told of it."""


class ChatFunction(TypedDict):
    """What a call calls: in rows of SFT files the arguments are JSON in a string."""

    name: str
    arguments: dict[str, Any] | str


class ChatCall(TypedDict):
    """A tool call as chat templates and OpenAI-compatible servers take it."""

    type: str
    function: ChatFunction


class ChatMessage(TypedDict):
    """A message as chat templates take it. `step_loss_mask` is slime's: 0 mutes an assistant's message in training."""

    role: str
    content: str
    tool_calls: NotRequired[list[ChatCall]]
    step_loss_mask: NotRequired[int]


_Key: TypeAlias = tuple[tuple[str, str, str], ...]

_STAND_IN: list[ChatMessage] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class ChatRenderer:
    """Renders for one tokenizer and one set of tools. It keeps no state but what it remembers of its own results.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        tools: what the template is given as `tools`.
        thinking: `on` or `off` go to the template as its `enable_thinking`; `auto` leaves that to the template.

    Attributes:
        opening: what the template says in the policy's stead at the beginning of each of its turns (an empty thought,
            with `off`).
        end_of_turn: id of `<|im_end|>`.
        token_spans: finds the ids of a piece of a turn's text.

    Raises:
        TemplateError: the template cannot be used token-exactly, or does not know the switch.
    """

    def __init__(self, tokenizer: Tokenizer, tools: Sequence[ToolSchema] | None, thinking: str = "auto"):
        self.tokenizer = tokenizer
        self.tools = list(tools) if tools else None
        self._switch: dict[str, bool] = {} if thinking == "auto" else {"enable_thinking": thinking == "on"}
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        tidied = getattr(tokenizer, "clean_up_tokenization_spaces", True)
        self._plain: Callable[..., str] | None = None if tidied or self._fast is None else self._fast.decode
        self.end_of_turn: int = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        if self.end_of_turn is None or self.end_of_turn == tokenizer.unk_token_id:
            raise TemplateError(
                f"the tokenizer at {tokenizer.name_or_path!r} has no {END_OF_TURN} token; use a Qwen3 chat "
                "model's tokenizer"
            )
        self._heads: dict[_Key, Ids] = {}
        self._deltas: dict[_Key, Ids] = {}  # the samples of a group read the same tool results
        self._tail_at = len(self._ended(_STAND_IN, None))
        self._refuse_a_switch_without_effect(thinking)
        begun = self.render(_STAND_IN[:1], None, True)
        self.opening = begun[begun.rindex(AWAITED) + len(AWAITED) :] if AWAITED in begun else ""
        self._refuse_rewriting()
        self.token_spans = TokenSpans(self.decode)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        if self._plain is not None:  # the same text, without transformers' look at the type of each id
            return self._plain(ids, skip_special_tokens=False)
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def prompt(self, messages: Sequence[ChatMessage]) -> Ids:
        """Ids of a whole conversation that ends with a generation prompt (rendered once, at an episode's start)."""
        head, rest = messages[:-1], messages[-1:]
        if len(messages) < 3 or head[-1]["role"] != "assistant" or rest[0]["role"] not in ("user", "tool"):
            return Ids.of(self._encode(self.render(messages, self.tools, True)))
        key = _key(head)
        if key not in self._heads:
            if len(self._heads) > 256:
                self._heads.clear()
            self._heads[key] = Ids.of(self._encode(self._ended(head, self.tools)))
        return self._heads[key] + self.delta(rest)

    def delta(self, new: Sequence[ChatMessage]) -> Ids:
        """Ids from right after a sampled `<|im_end|>` up to and including the next generation prompt.

        Args:
            new: the messages since then; user messages, or one turn's tool results in order.
        """
        key = _key(new)
        known = self._deltas.get(key)
        if known is None:
            if len(self._deltas) > 4096:
                self._deltas.clear()
            text = self.render([*_STAND_IN, *new], None, True)
            known = self._deltas[key] = Ids.of(self._encode(text[self._tail_at :]))
        return known

    def turn(self, message: ChatMessage) -> list[int]:
        """Ids of one assistant turn as a policy would sample it, its closing `<|im_end|>` included (for SFT)."""
        text = self.render([_STAND_IN[0], message], None, False)
        begun = self.render(_STAND_IN[:1], None, True)
        if not text.startswith(begun):
            raise TemplateError(
                f"the chat template begins each turn with {self.opening!r}; this one does not: "
                f"{message['content'][:80]!r}"
            )
        return self._encode(text[len(begun) : text.rindex(END_OF_TURN) + len(END_OF_TURN)])

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema] | None, generation: bool) -> str:
        """The text of a conversation, with a generation prompt or without."""
        text: str = self.tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=generation, **self._switch
        )
        return text

    def _ended(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema] | None) -> str:
        """The rendered conversation up to and including the `<|im_end|>` of its last message."""
        text = self.render(messages, tools, False)
        return text[: text.rindex(END_OF_TURN) + len(END_OF_TURN)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int]
        if self._fast is not None:  # the same ids, without transformers' padding, truncation and batching around them
            ids = self._fast.encode(text, add_special_tokens=False).ids
        else:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _refuse_a_switch_without_effect(self, thinking: str) -> None:
        if self._switch:
            on, off = (
                self.tokenizer.apply_chat_template(
                    _STAND_IN[:1], tokenize=False, add_generation_prompt=True, enable_thinking=switch
                )
                for switch in (True, False)
            )
            if on == off:
                raise TemplateError(
                    f"thinking = {thinking}: the chat template of {self.tokenizer.name_or_path!r} has no such "
                    "switch (enable_thinking); use thinking=auto"
                )

    def _refuse_rewriting(self) -> None:
        turns = ["<think>\nb\n</think>\n\nc", *([f"{self.opening}c"] if self.opening else [])]
        for said, role in itertools.product(turns, ("user", "tool")):
            start: list[ChatMessage] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}]
            before = self._ended(start, self.tools)
            after = self.render([*start, {"role": role, "content": "d"}], self.tools, True)
            if not after.startswith(before) or said not in after:
                raise TemplateError(
                    f"the chat template of {self.tokenizer.name_or_path!r} rewrites earlier turns (hybrid thinking): "
                    "the tokens that were sampled would not be those that are trained on; use a template that keeps "
                    "history, such as Qwen3-4B-Instruct-2507's"
                )


def _key(messages: Sequence[ChatMessage]) -> _Key:
    """What tells messages from others. Their texts, some of them long, are not copied for it."""
    return tuple((m["role"], m["content"], repr(m) if len(m) > 2 else "") for m in messages)


def chat_messages(messages: Iterable[MessageRecord]) -> list[ChatMessage]:
    """tau2 messages (as JSON) as the agent sees them, in chat-template form.

    The user's own tool calls and their results are not the agent's to see.
    """
    out: list[ChatMessage] = []
    for m in messages:
        content = m.get("content") or ""
        if m["role"] == "assistant":
            message: ChatMessage = {"role": "assistant", "content": content}
            if m.get("tool_calls"):
                message["tool_calls"] = [
                    {"type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
                    for c in m["tool_calls"] or []
                ]
            out.append(message)
        elif m["role"] == "tool":
            if m.get("requestor", "assistant") == "assistant":
                out.append({"role": "tool", "content": content})
        elif not m.get("tool_calls"):
            out.append({"role": "user", "content": content})
    return out
