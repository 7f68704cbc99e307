"""Tokenizers of models that think, and policies that do: templates as published, from the trl wheel."""

import copy

from conftest import trl_template
from tokenizers import AddedToken

FAMILIES = {  # name -> (template in the trl wheel, the option `thinking`)
    "qwen3": ("qwen3", "auto"),
    "qwen3 on": ("qwen3", "on"),
    "qwen3 off": ("qwen3", "off"),
    "qwen3 2507": ("qwen3", "auto"),
    "glm": ("glm4moe", "auto"),
    "glm off": ("glm4moe", "off"),
    "qwen3.5": ("qwen3_5_think", "auto"),
    "qwen3.6 off": ("qwen3_6", "off"),
    "nemotron": ("nemotron_3_nano", "auto"),
}
_SWITCHED = "{%- if enable_thinking is defined and enable_thinking is false %}"


def tokenizer_of(plain, family):
    """A copy of a tokenizer with a family's template and marks; (tokenizer, option `thinking`)."""
    name, thinking = FAMILIES[family]
    out = copy.deepcopy(plain)
    out.chat_template = trl_template(name)
    if family == "qwen3 2507":  # Thinking-2507's differs from the hybrid's in its end alone: it always begins a thought
        head, switch, tail = out.chat_template.rpartition(_SWITCHED)
        assert switch and "<think>\\n\\n</think>\\n\\n" in tail
        out.chat_template = head + "{{- '<think>\\n' }}{%- endif %}"
    marks = ["<think>", "</think>"]
    if name == "glm4moe":
        marks += ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
        out.add_tokens([AddedToken(m, normalized=False, special=True) for m in marks[2:]])
    out.add_tokens([AddedToken(m, normalized=False) for m in marks[:2]])
    return out, thinking


def without_end(tokenizer):
    """The same without `<|im_end|>`, as other families are."""
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    inside = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in inside["added_tokens"]:
        token["content"] = token["content"].replace("<|im_end|>", "<|gone|>")
    core = Tokenizer.from_str(json.dumps(inside))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|user|>", chat_template=tokenizer.chat_template, pad_token="<|endoftext|>"
    )


def thinking_teacher(**teacher):
    """The helpdesk teacher as a policy that thinks before each turn, each time something else."""
    from fake_policy import teacher_reply

    plain = teacher_reply(**teacher)

    def reply(prompt, n):
        said = plain(prompt, n)
        opened = "" if prompt.endswith("<think>\n") else "<think>\n"
        return f"{opened}Request {n}: {said[:20].strip()}\n</think>\n\n{said}"

    return reply
