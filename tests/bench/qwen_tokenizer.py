"""Qwen's tokenizer from PyPI: `pip install --no-deps dashscope trl==1.16.0 && python tests/bench/qwen_tokenizer.py
DIR`.

The vocabulary is dashscope's `qwen.tiktoken` (Apache-2.0), the split pattern Qwen2's and Qwen3's, the chat template
trl's copy of Qwen3-Instruct-2507's. Token counts and tokenizing cost are Qwen's; that every id equals Qwen3's own
tokenizer.json is not claimed.
"""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PATTERN = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def _file(package: str, *path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit("error: pip install --no-deps dashscope trl==1.16.0")
    return Path(spec.submodule_search_locations[0]).joinpath(*path)


def _byte_names() -> dict[int, str]:
    """GPT-2's printable name of each byte, which byte-level BPE vocabularies are written in."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {b: chr(b) for b in printable}
    hidden = (b for b in range(256) if b not in names)
    return names | {b: chr(256 + n) for n, b in enumerate(hidden)}


def build() -> PreTrainedTokenizerFast:
    lines = _file("dashscope", "resources", "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    names = _byte_names()
    vocab = {"".join(names[b] for b in token): rank for token, rank in ranks.items()}
    merges = []
    for token, rank in ranks.items():
        pairs = [
            (ranks[token[:n]], ranks[token[n:]], n)
            for n in range(1, len(token))
            if token[:n] in ranks and token[n:] in ranks
        ]
        merges += [(rank, left, right, token[:n], token[n:]) for left, right, n in pairs]
    merges.sort(key=lambda m: m[:3])
    words = [("".join(names[b] for b in left), "".join(names[b] for b in right)) for *_, left, right in merges]
    core = Tokenizer(models.BPE(vocab=vocab, merges=words))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    core.add_tokens(
        [
            AddedToken(t, normalized=False)
            for t in ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
        ]
    )
    template = _file("trl", "chat_templates", "qwen3_instruct_2507.jinja").read_text()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )


if __name__ == "__main__":
    build().save_pretrained(sys.argv[1])
    print(f"written to {sys.argv[1]}")
