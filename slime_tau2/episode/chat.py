"""Chat template -> token ids, one delta at a time.

Where the template keeps history, a conversation is never rendered twice. The first turn renders the prompt; every later
turn renders only what is new (the user's words, tool results) behind a stand-in conversation and keeps what the
template added, starting right after the `<|im_end|>` that the policy sampled. The policy's own output is never decoded
and encoded again (invariant 1).

Where it rewrites history (a thinking model's drops earlier thoughts), each turn's conversation is rendered whole, and
`segments` compares. Which of the two a template does is learned from it at start (`template_probes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict

from tokenizers.decoders import ByteLevel

from slime_tau2.episode import template_probes, thoughts
from slime_tau2.episode.template_probes import END_OF_TURN
from slime_tau2.episode.token_spans import IdTexts, TokenSpans
from slime_tau2.errors import TemplateError
from slime_tau2.ledger import Ids
from slime_tau2.record import MessageRecord
from slime_tau2.tokenizer import Tokenizer

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
    """A message as chat templates take it. `reasoning_content` is what an assistant thought before it; `step_loss_mask`
    is slime's: 0 mutes an assistant's message in training.
    """

    role: str
    content: str
    reasoning_content: NotRequired[str]
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
            with `off`; the beginning of a thought, where the model always thinks).
        ends: the ids that end a turn: `<|im_end|>`; in other families the marks of who speaks next.
        keeps_history: whether an earlier turn is rendered as it was said, whatever follows it.
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
        self._texts = IdTexts(self._decoded)
        self._bytewise = self._plain is not None and isinstance(getattr(self._fast, "decoder", None), ByteLevel)
        self.ends = template_probes.ends(self)
        marks = "|".join(re.escape(self.decode([i])) for i in self.ends)
        self._piece = re.compile(f".*?(?:{marks})|.+", re.DOTALL)
        self._heads: dict[_Key, Ids] = {}
        self._deltas: dict[_Key, Ids] = {}  # the samples of a group read the same tool results
        self._pieces: dict[str, Ids] = {}
        if self._switch:
            template_probes.refuse_a_switch_without_effect(tokenizer, thinking)
        self.opening = template_probes.opening(self)
        self.keeps_history = template_probes.keeps_history(self)
        if self.keeps_history:
            self._tail_at = len(self.ended(_STAND_IN, None))
        else:
            template_probes.refuse_what_is_lost(self)
        self.token_spans = TokenSpans(self.decode, self._texts)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        if self._bytewise:  # the text is that of the ids' bytes, hence theirs, one behind the other, if each is a text
            text = "".join(self._texts.of(ids))
            if "\ufffd" not in text:
                return text
        return self._decoded(ids)

    def _decoded(self, ids: Sequence[int]) -> str:
        if self._plain is not None:  # the same text, without transformers' look at the type of each id
            return self._plain(ids, skip_special_tokens=False)
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def prompt(self, messages: Sequence[ChatMessage]) -> Ids:
        """Ids of a whole conversation that ends with a generation prompt (rendered once, at an episode's start)."""
        head, rest = messages[:-1], messages[-1:]
        if len(messages) < 3 or head[-1]["role"] != "assistant" or rest[0]["role"] not in ("user", "tool"):
            return Ids.of(self.encode(self.render(messages, self.tools, True)))
        key = _key(head)
        if key not in self._heads:
            if len(self._heads) > 256:
                self._heads.clear()
            self._heads[key] = Ids.of(self.encode(self.ended(head, self.tools)))
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
            known = self._deltas[key] = Ids.of(self.encode(text[self._tail_at :]))
        return known

    def turn(self, message: ChatMessage) -> list[int]:
        """Ids of one assistant turn as a policy would sample it, what ends it included (for SFT).

        They are what the template writes of a conversation's last turn, its thought first where it has one.

        Raises:
            TemplateError: the template writes something else than what the turn begins with, or takes no such call.
        """
        try:
            text = self.render([_STAND_IN[0], message], None, False)
        except Exception as error:  # whatever a template raises
            raise TemplateError(
                f"the chat template of {self.tokenizer.name_or_path!r} takes no such turn ({error}): "
                f"{str(message)[:200]}; use a Qwen3 chat model's, or rows of protocol=card"
            ) from error
        begun = self.render(_STAND_IN[:1], None, True)
        head = begun.removesuffix(self.opening)
        if text.startswith(begun):
            said = text[len(begun) :]
        elif thoughts.unfinished(self.opening) and text.startswith(head) and thoughts.CLOSE in text[len(head) :]:
            said = text[text.index(thoughts.CLOSE, len(head)) :]  # an empty thought, written in another way than begun
        else:
            raise TemplateError(
                f"the chat template begins each turn with {self.opening!r}; this one does not: "
                f"{message['content'][:80]!r}"
            )
        if len(self.ends) > 1:  # the mark of who speaks next
            return [*self.encode(said), self.ends[1] if message.get("tool_calls") else self.ends[0]]
        end = self.decode(self.ends)
        return self.encode(said[: said.rindex(end) + len(end)])

    def thought_length(self, ids: Sequence[int], text: str) -> int:
        """How many ids of a turn, from the first on, are its thoughts, the mark that ends them included.

        Args:
            text: of these ids, without what ended the turn.
        """
        characters = thoughts.length(self.opening + text) - len(self.opening)
        if characters <= 0 or not ids:
            return 0
        return self.token_spans.find(list(ids), text, [(0, characters)])[0][1]

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema] | None, generation: bool) -> str:
        """The text of a conversation, with a generation prompt or without."""
        text: str = self.tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=generation, **self._switch
        )
        return text

    def ended(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema] | None) -> str:
        """The rendered conversation up to and including the `<|im_end|>` of its last message."""
        text = self.render(messages, tools, False)
        return text[: text.rindex(END_OF_TURN) + len(END_OF_TURN)]

    def whole(self, text: str) -> Ids:
        """Ids of a rendered conversation. What it has in common with others is encoded once: messages are apart."""
        found = self._piece.findall(text)
        if len(self._pieces) + len(found) > 4096:
            self._pieces.clear()
        for piece in found:
            if piece not in self._pieces:
                self._pieces[piece] = Ids.of(self.encode(piece))
        return Ids.joined([self._pieces[piece] for piece in found])

    def encode(self, text: str) -> list[int]:
        """The ids of a text, its special tokens as such and none added."""
        ids: list[int]
        if self._fast is not None:  # the same ids, without transformers' padding, truncation and batching around them
            ids = self._fast.encode(text, add_special_tokens=False).ids
        else:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def _key(messages: Sequence[ChatMessage]) -> _Key:
    """What tells messages from others. Their texts, some of them long, are not copied for it."""
    return tuple((m["role"], m["content"], repr(m) if len(m) > 2 else "") for m in messages)


def chat_messages(messages: Iterable[MessageRecord], thought: Mapping[int, str] | None = None) -> list[ChatMessage]:
    """tau2 messages (as JSON) as the agent sees them, in chat-template form.

    The user's own tool calls and their results are not the agent's to see.

    Args:
        thought: {index of a message of the assistant's: what it thought before it}.
    """
    out: list[ChatMessage] = []
    for number, m in enumerate(messages):
        content = m.get("content") or ""
        if m["role"] == "assistant":
            message: ChatMessage = {"role": "assistant", "content": content}
            if thought and number in thought:
                message["reasoning_content"] = thought[number]
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
