"""What slime's trainer replays of the sampler's choices: the tokens that top-p kept, the experts that a mixture's
router chose.

`--rollout-top-p` other than 1 and `--use-rollout-routing-replay` need a record per sampled token. It comes with
the server's `meta_info` and goes to the trainer through `Sample.append_response_tokens`. slime misses it only after a
whole rollout, with an assertion; here its absence is an error at the first sample that should have had it. Evaluation
replays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.types import Reply

_TOP_P_META = ("top_p_token_ids", "top_p_kept_token_ids")
_EXPERTS_META = "routed_experts"
_FIX = (
    "serve the policy with slime's own SGLang behind slime's own router (PyPI's sglang-router 0.3.2 drops the "
    "request for them), or"
)


def top_p(args: object) -> bool:
    """Whether the trainer masks its logits to the tokens that top-p kept."""
    return float(option(args, "rollout_top_p", None) or 1.0) != 1.0


def experts(args: object) -> bool:
    """Whether the trainer routes tokens as the server did."""
    return bool(option(args, "use_rollout_routing_replay", False))


def missing(args: object, replies: Sequence[Reply]) -> str | None:
    """What a training sample of these replies would lack, with the fix; None where it lacks nothing."""
    metas = [reply.meta for reply in replies if reply.end > reply.start]
    if top_p(args) and not all(any(key in meta for key in _TOP_P_META) for meta in metas):
        value = option(args, "rollout_top_p", None)
        return (
            f"--rollout-top-p {value}: a reply of the policy server has no {_TOP_P_META[0]}; "
            f"{_FIX} set --rollout-top-p 1.0"
        )
    # each reply also brings the rows that one before it did not, so the last of each segment must have them
    last = {reply.segment: reply.meta for reply in replies if reply.end > reply.start}
    if experts(args) and any(_EXPERTS_META not in meta for meta in last.values()):
        return (
            f"--use-rollout-routing-replay: a reply of the policy server has no {_EXPERTS_META}; {_FIX} drop the flag"
        )
    return None


def meta_info(args: object, sample: Sample, reply: Reply, replayed: bool) -> dict[str, Any]:
    """A reply's `meta_info` for `sample`, whose tokens are those that the request was sent."""
    meta = dict(reply.meta)
    if not (replayed and experts(args) and reply.end > reply.start):
        meta.pop(_EXPERTS_META, None)
    elif _EXPERTS_META in meta:
        # the rows end at the token before the last; where they start depends on whether the router let our request for
        # a start through
        layers, chosen = _experts_shape(args)
        rows = _integers(meta[_EXPERTS_META]) // (layers * chosen)
        meta["routed_experts_start_len"] = len(sample.tokens) + reply.end - reply.start - 1 - rows
    if not (replayed and top_p(args) and reply.end > reply.start):
        meta = {k: v for k, v in meta.items() if not k.startswith("top_p_")}
    return meta


def _experts_shape(args: object) -> tuple[int, int]:
    """(layers of the model, experts that a token meets in each)."""
    return option(args, "num_layers", 0), option(args, "moe_router_topk", 0)


def _integers(value: object) -> int:
    """How many 32-bit integers a field of `meta_info` holds, in base64 as SGLang sends them, or as lists."""
    if isinstance(value, str):
        padding = value[-2:].count("=")
        decoded_bytes = len(value) * 3 // 4 - padding
        return decoded_bytes // 4
    if isinstance(value, Sequence):
        return sum(_integers(element) for element in value)
    return 1


def start(args: object, sample: Sample, replayed: bool) -> None:
    """Open the records of a sample that holds none, before the first response token."""
    if replayed and top_p(args):
        sample.rollout_top_p_token_ids = []
        sample.rollout_top_p_token_offsets = [0]


def pad(args: object, sample: Sample) -> None:
    """Records for a sample that trains nothing, in the shape that the trainer asks of every sample."""
    start(args, sample, True)
    if top_p(args):
        sample.rollout_top_p_token_offsets = [0] * (sample.response_length + 1)
    if experts(args):
        import torch

        layers, chosen = _experts_shape(args)
        row = torch.arange(chosen, dtype=torch.int32)
        sample.rollout_routed_experts = row.expand(len(sample.tokens) - 1, layers, -1).contiguous()
