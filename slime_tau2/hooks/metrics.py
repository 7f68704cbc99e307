"""`--custom-rollout-log-function-path` and its evaluation twin: what the episodes did, over all and by domain.

Everything is a number under a key that docs/hooks.md lists, so that W&B and TensorBoard take it alike. W&B also gets a
table of all groups and one of a few whole conversations, and the dump (`rollout_dump`) the same rows. Both hooks return
False: slime's own logging runs too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.dumps.format import GroupRow
from slime_tau2.hooks import current, fan_out, rewards, rollout_dump
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import GenerateState, Sample, log_metrics, log_table
from slime_tau2.hooks.generate import take_faults
from slime_tau2.hooks.group_story import story
from slime_tau2.hooks.rollout_rows import GROUP_COLUMNS, TABLE_COLUMNS, group_rows, group_table, segments, table_row
from slime_tau2.hooks.samples import flatten, info, task_reward
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.types import is_success

MAX_TEXT = 20_000
"""Characters of a conversation in the table; the rest is cut off."""
_MEANS = {
    "partial": "partial",
    "turns": "turns",
    "tool_calls": "calls",
    "tool_errors": "tool_errors",
    "malformed_calls": "malformed",
    "user_s": "user_s",
    "policy_s": "policy_s",
    "user_stopped_early": "user_stopped_early",
}
"""{key that is logged: field of `SampleInfo` that it is the mean of}."""


def episode_metrics(samples: Sequence[Sample], prefix: str) -> dict[str, float]:
    """Rewards, partials, lengths, errors and terminations of a batch's episodes: over all, and by domain where it has
    several.

    Pure.
    """
    metrics = _of_batch(samples, prefix)
    domains = sorted({s.metadata.get("domain", "") for s in samples})
    if len(domains) > 1:
        for domain in filter(None, domains):
            metrics |= _of_batch([s for s in samples if s.metadata.get("domain") == domain], f"{prefix}/{domain}")
    return metrics


def _of_batch(samples: Sequence[Sample], prefix: str) -> dict[str, float]:
    if not samples:
        return {f"{prefix}/dropped": 0.0}
    played = fan_out.episodes(samples)
    valid = [episode for episode in played if not episode[0].remove_sample]
    metrics = {"dropped": 1 - len(valid) / len(played)}
    terminations = Counter(info(episode[0]).get("termination", "unknown") for episode in played)
    metrics |= {f"ended_{termination}": count / len(played) for termination, count in terminations.items()}
    if valid:
        metrics |= _of_valid(valid)
    return {f"{prefix}/{key}": value for key, value in metrics.items()}


def _of_valid(episodes: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """What is logged of the episodes that count, at least one, each with its samples."""
    infos = [info(episode[0]) for episode in episodes]
    segments = [record for i in infos for record in i.get("segments", ())]
    later = [record for i in infos for record in i.get("segments", ())[1:]]
    trained = [sum(sum(s.loss_mask or ()) for s in episode) for episode in episodes]
    policy_tokens: list[Mapping[str, object]] = [i.get("usage", {}).get("policy") or {} for i in infos]
    earned = [task_reward(episode[0]) for episode in episodes]
    return {
        "reward": fmean(earned),
        "success": fmean(map(is_success, earned)),
        **{key: fmean(_number(i, field) for i in infos) for key, field in _MEANS.items()},
        "user_s_per_turn": _ratio(infos, "user_s", "turns"),
        "prefix_cache_hits": _ratio(policy_tokens, "cached", "prompt"),
        "response_tokens": fmean(sum(s.response_length for s in episode) for episode in episodes),
        "trained_tokens": fmean(trained),
        "longest_tokens": float(max(len(s.tokens) for episode in episodes for s in episode)),
        "segments": len(segments) / len(episodes),
        "segment_prompt_tokens": _ratio([{"p": r["prompt"], "n": 1} for r in segments], "p", "n"),
        "segment_trained_tokens": sum(trained) / max(len(segments), 1),
        "prefix_kept": _ratio(later, "kept", "prompt") if later else 1.0,
        "weight_updates_within": fmean(
            len({v for s in episode for v in s.weight_versions}) > 1 for episode in episodes
        ),
    }


def _number(values: Mapping[str, object], field: str) -> float:
    value = values.get(field)
    return float(value) if isinstance(value, int | float) else 0.0


def _ratio(values: Iterable[Mapping[str, object]], over: str, under: str) -> float:
    pairs = [(_number(v, over), _number(v, under)) for v in values]
    total = sum(u for _, u in pairs)
    return sum(o for o, _ in pairs) / total if total else 0.0


def group_metrics(config: Tau2Config, samples: Sequence[Sample], prefix: str) -> dict[str, float]:
    """Shares of the groups that train: those without variance in their training rewards, and those of one outcome only.

    Pure.
    """
    groups: dict[int | None, list[Sample]] = defaultdict(list)
    for s in fan_out.first_samples(samples):
        if not s.remove_sample:
            groups[s.group_index].append(s)
    if not groups:
        return {}
    task_rewards = [[task_reward(s) for s in group] for group in groups.values()]
    shaped = [[training_reward(config, s, task_reward(s)) for s in group] for group in groups.values()]
    return {
        f"{prefix}/zero_variance_groups": fmean(max(r) - min(r) < 1e-6 for r in shaped),
        f"{prefix}/solved_groups": fmean(all(map(is_success, r)) for r in task_rewards),
        f"{prefix}/unsolved_groups": fmean(not any(map(is_success, r)) for r in task_rewards),
    }


def log_rollout(
    rollout_id: int,
    args: object,
    samples: list[Any],
    rollout_extra_metrics: dict[str, Any] | None,
    rollout_time: float,
) -> bool:
    """Log a training rollout and have our data source close it; False lets slime's default logging run too.

    It runs when the rollout has ended and before the model trains on it, in every mode of slime. Of all hooks it alone
    is told the rollout's id, so the data source writes its state of this rollout here.
    """
    flat, config = flatten(samples), Tau2Config.from_args(args)
    metrics = episode_metrics(flat, "tau2") | group_metrics(config, flat, "tau2")
    metrics |= {f"tau2/faults/{kind}": float(count) for kind, count in take_faults().items()}
    metrics["tau2/episodes_per_s"] = len(fan_out.episodes(flat)) / rollout_time if rollout_time else 0.0
    source = current.data_source()
    if source is not None:
        source.end_rollout(flat, rollout_id)
        metrics |= {f"tau2/{key}": value for key, value in source.progress().items()}
    log_metrics(args, {**metrics, "rollout/step": rollout_id}, "rollout/step")
    _tell(args, config, Rollout(rollout_id, flat, rollout_time, metrics))
    return False


@dataclass(frozen=True)
class Rollout:
    """A training rollout that has ended."""

    rollout_id: int
    samples: list[Sample]
    """Those that train, flat."""
    seconds: float
    metrics: dict[str, float]


def _tell(args: object, config: Tau2Config, rollout: Rollout) -> None:
    """Tables and dump of what became of each group. The advantages are those that `reward_post_process` will give."""
    settled, waiting = story.take()
    if not rollout.samples or not (config.dump or config.log_samples):
        return
    samples = rollout.samples
    ours = option(args, "custom_reward_post_process_path", rewards.PATH) == rewards.PATH
    decided = rewards.decide(config, samples) if ours else None
    advantages = decided.advantages if decided is not None else [None] * len(samples)
    rows = group_rows(config, samples, advantages, settled)
    if config.log_samples:
        log_table(args, "tau2/groups", GROUP_COLUMNS, lambda: group_table(rollout.rollout_id, rows))
        columns = [*TABLE_COLUMNS, "conversation"]
        log_table(args, "tau2/samples", columns, lambda: sample_table(args, rollout, rows, config.log_samples))
    if config.dump and rollout_dump.dump_of(args) is not None:
        told = rollout_dump.Told(
            rollout=rollout.rollout_id,
            seconds=rollout.seconds,
            figures=rollout.metrics,
            rows=rows,
            waiting=waiting,
            samples=samples,
            per_token=_per_token(samples, decided),
        )
        rollout_dump.write(args, config, told, GenerateState(args).tokenizer)


def _per_token(samples: Sequence[Sample], decided: rewards.Decided | None) -> list[rollout_dump.Advantages]:
    """For each sample that trains its advantages, one per response token."""
    if decided is None:
        return [None] * len(samples)
    whole = [[a] * s.response_length for s, a in zip(samples, decided.advantages)]
    spread = whole if decided.per_token is None else decided.per_token
    return [None if s.remove_sample else own for s, own in zip(samples, spread)]


def sample_table(args: object, rollout: Rollout, rows: Sequence[GroupRow], count: int) -> Iterable[list[object]]:
    """Rows for `count` samples, evenly spread: TABLE_COLUMNS and the conversation, which is the policy's tokens,
    decoded.
    """
    tokenizer = GenerateState(args).tokenizer
    samples = rollout.samples
    trained = [group for group in rows if group["fate"] == "trained"]
    told = {(row["sample"], row["segment"]): (group, row) for group in trained for row in group["samples"]}
    for s, segment in rollout_dump.evenly(list(zip(samples, segments(samples))), count):
        text: str = tokenizer.decode(s.tokens[len(s.tokens) - s.response_length :], skip_special_tokens=False)
        yield [*table_row(rollout.rollout_id, *told[s.index, segment]), text[:MAX_TEXT]]


def log_eval(
    rollout_id: int, args: object, data: dict[str, dict[str, Any]], extra_metrics: dict[str, Any] | None
) -> bool:
    """Log an evaluation, one set of figures per data set; False lets slime's default logging run too."""
    metrics: dict[str, float] = {}
    for name, dataset in data.items():
        metrics |= episode_metrics(flatten(dataset.get("samples") or []), f"tau2_eval/{name}")
    log_metrics(args, {**metrics, "eval/step": rollout_id}, "eval/step")
    return False
