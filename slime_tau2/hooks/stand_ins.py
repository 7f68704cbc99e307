"""What stands in for slime where it is absent: its Sample, its filter's verdict, its state of a rollout, as far as the
hooks use them.

They carry v0.3.1's fields and `append_response_tokens`, so that the hooks are the same code in both places. An upstream
test runs one sequence of operations on both and compares every field.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from slime_tau2.hooks.arguments import option
from slime_tau2.tokenizer import load_tokenizer


@dataclass
class Sample:
    """Stand-in for slime v0.3.1's Sample."""

    class Status(Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    @dataclass
    class SpecInfo:
        """Speculative decoding, which the local server has not."""

    @dataclass
    class PrefixCacheInfo:
        cached_tokens: int = 0
        total_prompt_tokens: int = 0

    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str | list[dict[str, str]] = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: float | dict[str, Any] | None = None
    loss_mask: list[int] | None = None
    weight_versions: list[str] = field(default_factory=list)
    rollout_log_probs: list[float] | None = None
    remove_sample: bool = False
    teacher_log_probs: list[float] | None = None
    status: Status = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)
    generate_function_path: str | None = None
    custom_rm_path: str | None = None
    train_metadata: dict[str, Any] | None = None
    session_id: str | None = None
    non_generation_time: float = 0.0
    spec_info: SpecInfo = field(default_factory=SpecInfo)
    prefix_cache_info: PrefixCacheInfo = field(default_factory=PrefixCacheInfo)
    rollout_top_p_token_ids: list[int] | None = None
    rollout_top_p_token_offsets: list[int] | None = None
    rollout_routed_experts: Any = None

    def get_reward_value(self, args: object) -> float:
        key = option(args, "reward_key", None)
        return self.reward if not key else self.reward[key]  # type: ignore[index, return-value]

    def append_response_tokens(
        self,
        args: object = None,
        *,
        tokens: list[int],
        log_probs: list[float] | None = None,
        trainable: bool = True,
        meta_info: dict[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """Append response tokens; trainable ones need log-probs, others must not bring any. `meta_info` is the
        server's.
        """
        if trainable and (log_probs is None or len(log_probs) != len(tokens)):
            raise ValueError(f"{len(tokens)} trainable tokens need as many log-probs")
        if not trainable and log_probs is not None:
            raise ValueError("tokens that are not trainable take no log-probs")
        self.tokens = [*self.tokens, *tokens]
        self.response_length += len(tokens)
        self.loss_mask = (self.loss_mask or []) + [int(trainable)] * len(tokens)
        self.rollout_log_probs = (self.rollout_log_probs or []) + (
            list(log_probs or []) if trainable else [0.0] * len(tokens)
        )
        self.response += text or ""
        if meta_info is None or "finish_reason" not in meta_info:
            return
        self.prefix_cache_info.cached_tokens += meta_info.get("cached_tokens", 0)
        self.prefix_cache_info.total_prompt_tokens += meta_info.get("prompt_tokens", 0)
        if "weight_version" in meta_info:
            self.weight_versions.append(meta_info["weight_version"])
        ended = {"length": self.Status.TRUNCATED, "abort": self.Status.ABORTED, "stop": self.Status.COMPLETED}
        self.status = ended.get(meta_info["finish_reason"]["type"], self.status)


@dataclass
class DynamicFilterOutput:
    """Stand-in for slime's filter verdict."""

    keep: bool
    reason: str | None = None
    keep_when_insufficient: bool = False


class GenerateState:
    """Stand-in for slime's state of a rollout, of which a process has one; here each `args` object has its own."""

    def __new__(cls, args: Any) -> GenerateState:
        state = getattr(args, "_tau2_generate_state", None)
        if state is None:
            state = super().__new__(cls)
            state._start(args)
            args._tau2_generate_state = state
        return state

    def _start(self, args: Any) -> None:
        self.args, self.aborted = args, False
        self.tokenizer = load_tokenizer(args.hf_checkpoint)
        self.semaphore = asyncio.Semaphore(args.sglang_server_concurrency)
        self.sampling_params = {
            "temperature": args.rollout_temperature,
            "top_p": args.rollout_top_p,
            "top_k": args.rollout_top_k,
            "max_new_tokens": args.rollout_max_response_len,
            "skip_special_tokens": False,
        }
