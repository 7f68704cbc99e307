"""Tokenizers that are nearly the right one: every request works with them, and nothing means what it should."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from slime_tau2.domains.helpdesk import TOKENIZER


def permuted(directory: Path, seed: int = 0) -> Path:
    """The same texts and merges, each under another's id; the special tokens stay where they are."""
    return _written(directory, lambda core: _permute(core, seed))


def extended(directory: Path) -> Path:
    """A token that the server does not know, right behind its own."""

    def extend(core):
        last = max(t["id"] for t in core["added_tokens"])
        last = max(last, *core["model"]["vocab"].values())
        new = {
            "content": "naïve",
            "special": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        core["added_tokens"].append({"id": last + 1, **new})

    return _written(directory, extend)


def another_template(directory: Path) -> Path:
    """The right vocabulary under a template that begins its answers with a thought."""
    _written(directory, lambda core: None)
    path = directory / "chat_template.jinja"
    text = path.read_text()
    assert text.count("<|im_start|>assistant\\n") >= 1 or text.count("<|im_start|>assistant\n") >= 1
    at = text.rindex("<|im_start|>assistant\\n")
    path.write_text(text[:at] + text[at:].replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n", 1))
    return directory


def _permute(core, seed):
    vocab = core["model"]["vocab"]
    special = {t["content"] for t in core["added_tokens"]}
    names = [name for name in vocab if name not in special]
    ids = [vocab[name] for name in names]
    random.Random(seed).shuffle(ids)
    vocab.update(zip(names, ids))


def _written(directory: Path, change) -> Path:
    shutil.copytree(TOKENIZER, directory)
    path = directory / "tokenizer.json"
    core = json.loads(path.read_text(encoding="utf-8"))
    change(core)
    path.write_text(json.dumps(core, ensure_ascii=False), encoding="utf-8")
    return directory
