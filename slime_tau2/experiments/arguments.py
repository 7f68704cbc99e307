"""What a run's settings mean to whatever plays its episodes: tau2 options, and the arguments of slime."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slime_tau2.config import PREFIX
from slime_tau2.domains.helpdesk import MAX_STEPS
from slime_tau2.episode.splits import WHOLE
from slime_tau2.experiments.settings import PipelineSettings

TEMPERATURE = 1.0
"""Sampling temperature of every episode."""


def played(settings: PipelineSettings) -> dict[str, Any]:
    """The tau2 options of every episode of a run: sampled for RFT, trained on by GRPO, or evaluated."""
    return {
        "user": "scripted",
        "seeded_sampling": True,
        "max_steps": MAX_STEPS,
        "max_turn_tokens": settings.max_turn_tokens,
        "policy_timeout_s": 60.0,
        "policy_retries": 2,
    }


def slime_args(
    settings: PipelineSettings, server_url: str, tokenizer: Path, dumps: Path, paths: Mapping[str, str]
) -> Namespace:
    """The arguments that slime would hand to the hooks, for the local engine; rollouts are dumped under `dumps`, and
    `paths` are options of the hooks that no setting holds.
    """
    host, port = server_url.removeprefix("http://").split(":")
    fixed = {"domains": (settings.tasks,), "split": WHOLE, "seed": settings.seed}
    options = {**played(settings), **fixed, **settings.tau2, **paths}
    return Namespace(
        hf_checkpoint=str(tokenizer),
        sglang_router_ip=host,
        sglang_router_port=int(port),
        sglang_server_concurrency=settings.concurrency,
        rollout_batch_size=settings.grpo_groups,
        over_sampling_batch_size=settings.grpo_groups,
        n_samples_per_prompt=settings.grpo_group_size,
        rollout_temperature=TEMPERATURE,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=settings.max_response_tokens,
        reward_key=None,
        save=None,
        load=None,  # the stage's own checkpoint holds the data source's state
        dump_details=str(dumps),
        **{PREFIX + key: value for key, value in options.items()},
    )
