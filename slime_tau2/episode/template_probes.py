"""What a chat template does, learned from what it writes for a few small conversations.

Templates of thinking models differ in what they make of earlier turns: Qwen3's drops thoughts once the user has spoken
again, and keeps them while tools answer; with thinking off it drops the empty thought that it began the turn with;
GLM's puts an empty thought in its place. None of that is in a table here: it shows in the texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from slime_tau2.episode import thoughts
from slime_tau2.errors import TemplateError
from slime_tau2.ledger import Ids
from slime_tau2.tokenizer import Tokenizer

END_OF_TURN = "<|im_end|>"
AWAITED = "<|im_start|>assistant\n"
"""How a template of Qwen's begins a turn of the policy's."""
WORDS, CALL = "Words, said.", '<tool_call>\n{"name": "look", "arguments": {"a": "b"}}\n</tool_call>'
Message: TypeAlias = dict[str, Any]
_ASKED: Message = {"role": "user", "content": "a"}


class Renders(Protocol):
    """What is used here of a `ChatRenderer`."""

    tokenizer: Tokenizer
    tools: Any
    opening: str

    def render(self, messages: Sequence[Any], tools: Any, generation: bool, /) -> str: ...

    def encode(self, text: str, /) -> list[int]: ...

    def decode(self, ids: Sequence[int], /) -> str: ...

    def whole(self, text: str, /) -> Ids: ...


def ends(chat: Renders) -> tuple[int, ...]:
    """The ids that end a turn: `<|im_end|>`, or else the marks that the template puts behind a turn.

    Raises:
        TemplateError: there is none.
    """
    tokenizer = chat.tokenizer
    known = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    if known is not None and known != tokenizer.unk_token_id:
        return (int(known),)
    found = []
    for role in ("user", "tool"):
        conversation = [_ASKED, _said(WORDS), {"role": role, "content": "d"}]
        try:
            behind = chat.render(conversation, chat.tools, False).partition(WORDS)[2]
            found.append(chat.encode(behind)[0])
        except Exception:  # whatever a template, or a tokenizer without one, stumbles over
            break
        mark = chat.decode(found[-1:])
        if not behind.startswith(mark) or tokenizer.convert_tokens_to_ids(mark) != found[-1]:
            break
    else:
        return tuple(dict.fromkeys(found))
    raise TemplateError(
        f"the tokenizer at {tokenizer.name_or_path!r} has no {END_OF_TURN} token, and its chat template no other token "
        "behind a turn; use a Qwen3 chat model's tokenizer"
    )


def opening(chat: Renders) -> str:
    """What the template says in the policy's stead at the beginning of each of its turns."""
    begun = chat.render([_ASKED], None, True)
    if AWAITED in begun:
        return begun[begun.rindex(AWAITED) + len(AWAITED) :]
    added = begun.removeprefix(chat.render([_ASKED], None, False))
    return added[added.index(thoughts.OPEN) :] if thoughts.OPEN in added else ""


def refuse_a_switch_without_effect(tokenizer: Tokenizer, thinking: str) -> None:
    """Raises TemplateError where the template knows no `enable_thinking`."""
    on, off = (
        tokenizer.apply_chat_template([_ASKED], tokenize=False, add_generation_prompt=True, enable_thinking=switch)
        for switch in (True, False)
    )
    if on == off:
        raise TemplateError(
            f"thinking = {thinking}: the chat template of {tokenizer.name_or_path!r} has no such switch "
            "(enable_thinking); use thinking=auto"
        )


def keeps_history(chat: Renders) -> bool:
    """Whether a turn, thoughts and all, is rendered as it was said, be it the user or a tool that answers it."""
    turns = ["<think>\nb\n</think>\n\nc", *([f"{chat.opening}c"] if chat.opening else [])]
    for said, role in itertools.product(turns, ("user", "tool")):
        start = [_ASKED, _said(said)]
        before = chat.render(start, chat.tools, False)
        if END_OF_TURN not in before:
            return False  # another family: its conversations are rendered whole
        before = before[: before.rindex(END_OF_TURN) + len(END_OF_TURN)]
        after = chat.render([*start, {"role": role, "content": "d"}], chat.tools, True)
        if not after.startswith(before) or said not in after:
            return False
    return True


def refuse_what_is_lost(chat: Renders) -> None:
    """A template may drop thoughts; words and calls must stay as they were said, and messages apart.

    Raises:
        TemplateError: the template loses words or calls, or takes no such conversation, or the tokenizer joins what
            stands in two messages.
    """
    name = chat.tokenizer.name_or_path
    begun = chat.opening if thoughts.CLOSE in chat.opening else f"{thoughts.OPEN}\nhm\n{thoughts.CLOSE}\n\n"
    conversation = [_ASKED, _said(begun + CALL), {"role": "tool", "content": "d"}, _said(begun + WORDS), _ASKED]
    for upto, said in ((3, CALL), (5, CALL), (5, WORDS)):
        try:
            text = chat.render(conversation[:upto], chat.tools, True)
        except Exception as error:  # whatever a template raises
            raise TemplateError(f"the chat template of {name!r} takes no turn as it was said: {error}") from error
        if said not in text:
            raise TemplateError(
                f"the chat template of {name!r} loses what a turn said ({said!r}); use a model whose template shows "
                "calls as Qwen3's does"
            )
        if chat.whole(text).values.tolist() != chat.encode(text):
            raise TemplateError(
                f"the tokenizer at {name!r} joins what stands in two messages; use a Qwen3 chat model's tokenizer"
            )


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}
