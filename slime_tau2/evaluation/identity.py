"""Is the policy who we think: the tokenizer here against the server's own, before the first attempt.

Ids go out and come back, and mean what the model learned they mean. With another vocabulary here every turn is nonsense
on both sides, no request fails, and the audit, which asks the same tokenizer, agrees with itself: the run would end
with a score of 0 and no mismatch. So the server is asked to read and to write, and is compared with what is read and
written here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from slime_tau2.episode.policy import PolicyClient, Sample
from slime_tau2.errors import ConfigError, InfrastructureError, ServerUnavailable, UserError
from slime_tau2.evaluation.plan import PolicyServer
from slime_tau2.tokenizer import Tokenizer, load_tokenizer

MESSAGES = [
    {
        "role": "system",
        "content": 'Answer with the letters of the alphabet, then the numbers up to 12, then "naïve café", '
        "漢字 and 🙂.",
    },
    {
        "role": "user",
        "content": '<tool_call>\n{"name": "begin", "arguments": {"count": 3, "total": 17.25}}\n</tool_call>',
    },
]
SAMPLED = 32
MAX_UNSHOWN = 4
"""Tokens at the end whose text a server may withhold: the one that ended the turn, and half a character."""


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """SHA-256 of what tokenizer.json holds and of the chat template, wherever the tokenizer was loaded from."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content = fast.to_str() if fast is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}\0{tokenizer.chat_template}".encode()).hexdigest()


async def check(client: PolicyClient, tokenizer: Tokenizer, max_context_tokens: int) -> PolicyServer:
    """What the server says it is, if it can be trusted with this tokenizer's ids.

    Raises:
        ConfigError: one line for each thing that is wrong: vocabulary, chat template, context length; with the fix.
        ServerUnavailable: the server failed as it was asked.
    """
    about = await client.about()
    here, there = tokenizer.name_or_path, f"policy {client.root}"
    model = about.get("model_path")
    fix = f"name the tokenizer of the model that is served with --tokenizer{f' ({model})' if model else ''}"
    wrong = []
    try:
        vocabulary = _other_files(about.get("tokenizer_path"), tokenizer) or await _vocabulary(client, tokenizer)
        if vocabulary:
            wrong.append(f"{there}: the vocabulary at {here} is not the server's: {vocabulary}; {fix}")
        else:
            template = await _template(client, tokenizer)
            if template:
                wrong.append(
                    f"{there}: the chat template at {here} is not the server's: {template}; {fix}, or give the "
                    "server this template"
                )
    except InfrastructureError as error:
        kind = ServerUnavailable if error.unavailable else ConfigError
        raise kind(f"{there} cannot say whether the tokenizer at {here} is its own: {error}") from error
    length = about.get("context_length")
    if length is not None and length < max_context_tokens:
        wrong.append(
            f"{there} takes {length} tokens of context, and max_context_tokens is {max_context_tokens}: start it "
            "with more "
            f"(SGLang: --context-length, vLLM: --max-model-len), or --set max_context_tokens={length}"
        )
    if wrong:
        raise ConfigError("\n".join(wrong))
    return {
        "server": about["server"],
        "model_path": about["model_path"],
        "weight_version": about["weight_version"],
        "context_length": about["context_length"],
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }


async def _vocabulary(client: PolicyClient, tokenizer: Tokenizer) -> str:
    """What differs between the server's reading and writing and ours; empty where nothing does.

    Reading comes first: an id that the server's model does not have can end the server.
    """
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.encode(text, add_special_tokens=False)
    read = await client.read(text)
    if read is None:
        sample = await client.sample(text, 1)
        read = sample.prompt_ids
        begun = tokenizer.encode(text)  # a server that puts the tokens before it that the tokenizer puts
        if read is None and sample.prompt_tokens is not None and sample.prompt_tokens not in (len(ids), len(begun)):
            return f"it reads the same text as {sample.prompt_tokens} tokens, and here they are {len(ids)}"
    if read is not None and read[-len(ids) :] != ids:
        at = _common(read, ids)
        return f"from token {at} on it reads a text as {read[at : at + 4]}, and here they are {ids[at : at + 4]}"
    sample = await client.sample(ids, SAMPLED)
    beyond = [i for i in sample.ids if i >= len(tokenizer)]
    if beyond:
        return f"it sampled the ids {beyond[:4]}, and here they end at {len(tokenizer) - 1}"
    return _another_text(sample, tokenizer)


def _another_text(sample: Sample, tokenizer: Tokenizer) -> str:
    """How the server writes its ids otherwise than we do; empty where it does not.

    Half a character is shown as U+FFFD, or not at all, and counts for nothing.
    """
    if sample.text is None:
        return ""  # a server without a tokenizer: it has none that could be another
    theirs = sample.text.replace("\ufffd", "")
    whole = len(sample.ids)
    for end in range(whole, max(-1, whole - MAX_UNSHOWN - 1), -1):
        if tokenizer.decode(sample.ids[:end], skip_special_tokens=False).replace("\ufffd", "") == theirs:
            return ""
    ours = tokenizer.decode(sample.ids, skip_special_tokens=False)
    return f"it sampled {sample.text[:40]!r}, and here the same ids are {ours[:40]!r}"


async def _template(client: PolicyClient, tokenizer: Tokenizer) -> str:
    """What differs between the server's rendering of a conversation and ours.

    Empty where nothing does, or where the server does not tell.
    """
    theirs = await client.read(MESSAGES)
    ours = tokenizer.encode(
        tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True), add_special_tokens=False
    )
    if theirs is None or theirs == ours:
        return ""
    shown = [tokenizer.decode(ids[_common(theirs, ours) :][:24], skip_special_tokens=False) for ids in (theirs, ours)]
    return (
        f"two messages are {len(theirs)} tokens there and {len(ours)} here, and go on as {shown[0]!r} there, "
        f"{shown[1]!r} here"
    )


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two lists begin with in common."""
    return next((n for n, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _other_files(path: Any, tokenizer: Tokenizer) -> str:
    """The first token that has another id in the server's tokenizer, where that lies on this machine; else empty."""
    if (
        not isinstance(path, str)
        or not (Path(path) / "tokenizer.json").is_file()
        or path == str(tokenizer.name_or_path)
    ):
        return ""
    try:
        theirs, ours = load_tokenizer(Path(path)).get_vocab(), tokenizer.get_vocab()
    except (UserError, OSError, ValueError):
        return ""  # no reader of this machine's; the server is asked all the same
    other = next((token for token, n in theirs.items() if ours.get(token, n) != n), None)
    return (
        f"{path} has the token {other!r} as {theirs[other]}, and here it is {ours[other]}" if other is not None else ""
    )
