"""What slime hands to hooks and asks of them, as stand-ins: its contract tests' bare arguments, and a Sample that keeps
records.
"""

from __future__ import annotations

import base64
from array import array

from slime_tau2.hooks.compat import Sample


class Slots:
    """Arguments without `__dict__`."""

    __slots__ = ("n_samples_per_prompt", "tau2_alpha", "tau2_user")

    def __init__(self, **values):
        for key, value in values.items():
            setattr(self, key, value)


class Properties:
    """Arguments that are looked up in the class."""

    tau2_user = "scripted"
    n_samples_per_prompt = 3

    @property
    def tau2_alpha(self):
        return 0.5


def bare():
    """Arguments that have nothing."""
    return type("Args", (), {})()


def decode(text):
    return list(array("i", base64.b64decode(text)))


class RecordingSample(Sample):
    """Keeps top-p sets and routed experts as slime's Sample does, and like it refuses what is not aligned with the
    tokens.

    An array of experts ends at the token before the last and starts at `routed_experts_start_len`; here a row is one
    flat list.
    """

    def append_response_tokens(self, args=None, *, tokens, log_probs=None, trainable=True, meta_info=None, text=None):
        super().append_response_tokens(
            args, tokens=tokens, log_probs=log_probs, trainable=trainable, meta_info=meta_info, text=text
        )
        meta, offsets = meta_info or {}, self.rollout_top_p_token_offsets
        if "top_p_token_ids" in meta and tokens:
            kept, ends = decode(meta["top_p_token_ids"]), decode(meta["top_p_token_offsets"])
            assert ends[0] == 0 and ends[-1] == len(kept) and len(ends) == len(tokens) + 1
            offsets = offsets or [0]
            self.rollout_top_p_token_ids = [*(self.rollout_top_p_token_ids or []), *kept]
            self.rollout_top_p_token_offsets = [*offsets, *(offsets[-1] + e for e in ends[1:])]
        elif offsets is not None and not trainable:
            self.rollout_top_p_token_offsets = [*offsets, *[offsets[-1]] * len(tokens)]
        if (
            self.rollout_top_p_token_offsets is not None
            and len(self.rollout_top_p_token_offsets) != self.response_length + 1
        ):
            raise ValueError("top-p offsets are not aligned with the response")
        if "routed_experts" in meta:
            flat, start, width = (
                decode(meta["routed_experts"]),
                meta.get("routed_experts_start_len", 0),
                args.num_layers * args.moe_router_topk,
            )
            known = self.rollout_routed_experts or []
            if start < 0 or len(flat) != (len(self.tokens) - 1 - start) * width or len(known) < start:
                raise ValueError(f"{len(flat)} experts from token {start} on do not fit {len(self.tokens)} tokens")
            self.rollout_routed_experts = known[:start] + [flat[n : n + width] for n in range(0, len(flat), width)]
