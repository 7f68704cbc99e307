"""Chat template -> token ids, one delta at a time.

A conversation is never rendered twice. The first turn renders the prompt; every later turn renders only what is new (the
user's words, tool results) behind a stand-in conversation and keeps what the template added, starting right after the
`<|im_end|>` that the policy sampled. The policy's own output is never decoded and encoded again (invariant 1).

This needs a template that does not rewrite history: one that drops earlier thinking blocks is refused at start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slime_tau2.episode.ledger import Ids
from slime_tau2.errors import TemplateError

END_OF_TURN = "<|im_end|>"
_STAND_IN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class ChatRenderer:
    """Renders for one tokenizer and one set of tools. Stateless between calls but for what it remembers of its own results."""

    def __init__(self, tokenizer: Any, tools: list[dict] | None):
        self.tokenizer, self.tools = tokenizer, tools or None
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self.end_of_turn: int = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        if self.end_of_turn is None or self.end_of_turn == tokenizer.unk_token_id:
            raise TemplateError(
                f"the tokenizer at {tokenizer.name_or_path!r} has no {END_OF_TURN} token; use a Qwen3 chat model's tokenizer"
            )
        self._heads: dict[str, Ids] = {}
        self._deltas: dict[str, Ids] = {}  # the samples of a group read the same tool results
        self._tail_at = len(self._ended(_STAND_IN, None))
        self._refuse_rewriting()

    def prompt(self, messages: list[dict]) -> Ids:
        """Ids of a whole conversation that ends with a generation prompt (rendered once, at an episode's start)."""
        head, rest = messages[:-1], messages[-1:]
        if len(messages) < 3 or head[-1]["role"] != "assistant" or rest[0]["role"] not in ("user", "tool"):
            return Ids.of(self._encode(self._render(messages, self.tools, True)))
        key = repr(head)
        if key not in self._heads:
            if len(self._heads) > 256:
                self._heads.clear()
            self._heads[key] = Ids.of(self._encode(self._ended(head, self.tools)))
        return self._heads[key] + self.delta(rest)

    def delta(self, new: list[dict]) -> Ids:
        """Ids from right after a sampled `<|im_end|>` up to and including the next generation prompt.

        Args:
            new: the messages since then; user messages, or one turn's tool results in order.
        """
        key = repr(new)
        if key not in self._deltas:
            if len(self._deltas) > 4096:
                self._deltas.clear()
            text = self._render([*_STAND_IN, *new], None, True)
            self._deltas[key] = Ids.of(self._encode(text[self._tail_at :]))
        return self._deltas[key]

    def turn(self, message: dict) -> list[int]:
        """Ids of one assistant turn as a policy would sample it, its closing `<|im_end|>` included (for SFT on recorded text)."""
        text = self._render([_STAND_IN[0], message], None, False)
        start = len(self._render(_STAND_IN[:1], None, True))
        return self._encode(text[start : text.rindex(END_OF_TURN) + len(END_OF_TURN)])

    def _render(self, messages: list[dict], tools: list[dict] | None, generation: bool) -> str:
        return self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=generation)

    def _ended(self, messages: list[dict], tools: list[dict] | None) -> str:
        """The rendered conversation up to and including the `<|im_end|>` of its last message."""
        text = self._render(messages, tools, False)
        return text[: text.rindex(END_OF_TURN) + len(END_OF_TURN)]

    def _encode(self, text: str) -> list[int]:
        if self._fast is not None:  # the same ids, without transformers' padding, truncation and batching around them
            return self._fast.encode(text, add_special_tokens=False).ids
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _refuse_rewriting(self) -> None:
        thinking = {"role": "assistant", "content": "<think>\nb\n</think>\n\nc"}
        start = [{"role": "user", "content": "a"}, thinking]
        for new in ([{"role": "user", "content": "d"}], [{"role": "tool", "content": "d"}]):
            before, after = self._ended(start, self.tools), self._render([*start, *new], self.tools, True)
            if not after.startswith(before) or thinking["content"] not in after:
                raise TemplateError(
                    f"the chat template of {self.tokenizer.name_or_path!r} rewrites earlier turns (hybrid thinking): the tokens that were "
                    "sampled would not be those that are trained on; use a template that keeps history, such as Qwen3-4B-Instruct-2507's"
                )


def chat_messages(messages: Iterable[dict]) -> list[dict]:
    """tau2 messages (as JSON) as the agent sees them, in chat-template form.

    The user's own tool calls and their results are not the agent's to see.
    """
    out: list[dict] = []
    for m in messages:
        content = m.get("content") or ""
        if m["role"] == "assistant":
            calls = [{"type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}} for c in m.get("tool_calls") or []]
            out.append({"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})})
        elif m["role"] == "tool":
            if m.get("requestor", "assistant") == "assistant":
                out.append({"role": "tool", "content": content})
        elif not m.get("tool_calls"):
            out.append({"role": "user", "content": content})
    return out
