"""A model's files: do they belong together, and can its template be used token by token."""

from __future__ import annotations

import json
from pathlib import Path

from slime_tau2.doctor.findings import Finding, fail, ok
from slime_tau2.errors import UserError
from slime_tau2.tokenizer import load_tokenizer

_TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Look up.", "parameters": {"type": "object", "properties": {}}},
}
_PREPARE = "bash launch/prepare.sh downloads it"


def files(directory: Path) -> Finding:
    """Whether the directory holds a configuration, a tokenizer and weights."""
    what = f"model {directory}"
    if not directory.is_dir():
        return fail(what, "does not exist", _PREPARE)
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).exists():
            return fail(what, f"has no {name}", _PREPARE)
    shards = list(directory.glob("*.safetensors"))
    if not shards:
        return fail(what, "has no *.safetensors", _PREPARE)
    return ok(what, f"{sum(s.stat().st_size for s in shards) / 2**30:.1f} GiB in {len(shards)} files")


def template(directory: Path) -> Finding:
    """Whether the tokenizer's template shows tools, calls and results as Qwen's does; and whether it keeps history."""
    what = "chat template"
    try:
        from slime_tau2.episode.chat import ChatCall, ChatMessage, ChatRenderer

        tokenizer = load_tokenizer(directory)
        chat = ChatRenderer(tokenizer, [_TOOL])
        call: ChatCall = {"type": "function", "function": {"name": "look_up", "arguments": {}}}
        messages: list[ChatMessage] = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "found"},
        ]
        shown = chat.render(messages, chat.tools, True)
    except UserError as error:
        return fail(what, str(error), "use a Qwen3 chat model's tokenizer")
    except Exception as error:  # a broken tokenizer.json surfaces as whatever its reader stumbles over
        return fail(what, f"{directory}: {type(error).__name__}: {error}", "use a Qwen3 chat model's tokenizer")
    missing = [mark for mark in ("<tools>", "<tool_call>", "<tool_response>") if mark not in shown]
    if missing:
        return fail(what, f"{directory} never writes {', '.join(missing)}", "use a Qwen3 chat model's tokenizer")
    history = "are kept" if chat.keeps_history else "are rewritten: an episode is several samples (docs/hooks.md)"
    return ok(what, f"tools, calls and results in Qwen's format; earlier turns {history}")


def rotary_base(directory: Path, base: int) -> Finding:
    """Whether Megatron's --rotary-base is the model's rope theta: a wrong one trains without an error."""
    what = "rotary base"
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        theta = int(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return fail(
            what, f"{directory}/config.json names no rope_theta ({error!r})", "copy the model's own config.json"
        )
    if theta != base:
        text = f"--rotary-base is {base} and {directory}/config.json has rope_theta {theta}"
        return fail(what, text, "set MODEL_ARGS_SCRIPT to the model's own script (Qwen3-4B-Instruct-2507: 5000000)")
    return ok(what, f"{theta} in Megatron's arguments and in the model")
