"""`--custom-rollout-log-function-path` and its evaluation twin: what the episodes did, over all and by domain.

Everything is a number under a key that docs/hooks.md lists, so that W&B and TensorBoard take it alike; W&B also gets a
few whole conversations as a table. Both return False: slime's own logging runs too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import data_source
from slime_tau2.hooks.compat import GenerateState, Sample, log_metrics, log_table
from slime_tau2.hooks.generate import take_faults
from slime_tau2.hooks.samples import flatten, info
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.types import is_success

TABLE_COLUMNS = ["rollout", "domain", "task", "reward", "partial", "termination", "turns", "conversation"]
LONGEST_TEXT = 20_000
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


def episode_metrics(samples: list[Sample], prefix: str) -> dict[str, float]:
    """Reward, partial, lengths, errors and terminations of a batch, over all and by domain. Pure."""
    out: dict[str, float] = {}
    domains = sorted({s.metadata.get("domain", "") for s in samples})
    for domain in ["", *(domains if len(domains) > 1 else [])]:
        part = [s for s in samples if not domain or s.metadata.get("domain") == domain]
        valid, name = [s for s in part if not s.remove_sample], f"{prefix}/{domain}/" if domain else f"{prefix}/"
        for termination, count in Counter(info(s).get("termination", "unknown") for s in part).items():
            out[f"{name}ended_{termination}"] = count / len(part)
        if valid:
            infos = [info(s) for s in valid]
            out[f"{name}reward"] = fmean(float(s.reward or 0.0) for s in valid)
            out[f"{name}success"] = fmean(is_success(s.reward) for s in valid)
            out |= {f"{name}{key}": fmean(float(i.get(field) or 0.0) for i in infos) for key, field in _MEANS.items()}
            out[f"{name}user_s_per_turn"] = _ratio(infos, "user_s", "turns")
            out[f"{name}prefix_cache_hits"] = _ratio(
                [i.get("usage", {}).get("policy", {}) for i in infos], "cached", "prompt"
            )
            out[f"{name}response_tokens"] = fmean(s.response_length for s in valid)
            out[f"{name}trained_tokens"] = fmean(sum(s.loss_mask or []) for s in valid)
            out[f"{name}longest_tokens"] = float(max(len(s.tokens) for s in valid))
            out[f"{name}weight_updates_within"] = fmean(len(set(s.weight_versions)) > 1 for s in valid)
        out[f"{name}dropped"] = 1 - len(valid) / len(part) if part else 0.0
    return out


def _ratio(infos: Sequence[dict[str, Any]], over: str, under: str) -> float:
    total = sum(float(i.get(under) or 0.0) for i in infos)
    return sum(float(i.get(over) or 0.0) for i in infos) / total if total else 0.0


def group_metrics(config: Tau2Config, samples: list[Sample], prefix: str) -> dict[str, float]:
    """Of the groups that train: the share without variance in their training rewards, and with one
    outcome only. Pure.
    """
    groups: dict[Any, list[Sample]] = defaultdict(list)
    for s in samples:
        if not s.remove_sample:
            groups[s.group_index].append(s)
    if not groups:
        return {}
    rewards = [[training_reward(config, s, float(s.reward or 0.0)) for s in g] for g in groups.values()]
    raw = [[float(s.reward or 0.0) for s in g] for g in groups.values()]
    return {
        f"{prefix}/zero_variance_groups": fmean(max(r) - min(r) < 1e-6 for r in rewards),
        f"{prefix}/solved_groups": fmean(all(map(is_success, r)) for r in raw),
        f"{prefix}/unsolved_groups": fmean(not any(map(is_success, r)) for r in raw),
    }


def log_rollout(
    rollout_id: int, args: Any, samples: list[Sample], rollout_extra_metrics: dict | None, rollout_time: float
) -> bool:
    """Log a training rollout and have our data source close it; False lets slime's default logging run too.

    It runs when the rollout has ended and before the model trains on it, in every mode of slime, and alone among the
    hooks it is told the rollout's id: so the data source's state of this rollout is written here.
    """
    flat, config = flatten(samples), Tau2Config.from_args(args)
    metrics = episode_metrics(flat, "tau2") | group_metrics(config, flat, "tau2")
    metrics |= {f"tau2/faults/{kind}": float(n) for kind, n in take_faults().items()}
    metrics["tau2/episodes_per_s"] = len(flat) / rollout_time if rollout_time else 0.0
    source = data_source.current()
    if source is not None:
        source.end_rollout(flat, rollout_id)
        metrics |= {
            f"tau2/curriculum/{pool}": float(n) for pool, n in source.order.curriculum.pools(list(source.tasks)).items()
        }
        metrics["tau2/epoch"] = float(source.order.epoch)
    log_metrics(args, {**metrics, "rollout/step": rollout_id}, "rollout/step")
    if config.log_samples and flat:
        log_table(args, "tau2/samples", TABLE_COLUMNS, lambda: sample_rows(args, rollout_id, flat, config.log_samples))
    return False


def sample_rows(args: Any, rollout_id: int, samples: list[Sample], count: int) -> Iterable[list]:
    """Rows of TABLE_COLUMNS for `count` samples, evenly spread; the conversation as the policy's tokens, decoded."""
    tokenizer = GenerateState(args).tokenizer
    for n in range(min(count, len(samples))):
        s = samples[n * len(samples) // min(count, len(samples))]
        text = tokenizer.decode(s.tokens[len(s.tokens) - s.response_length :], skip_special_tokens=False)
        told = info(s)
        yield [
            rollout_id,
            s.metadata.get("domain"),
            s.metadata.get("task_id"),
            float(s.reward or 0.0),
            told.get("partial", 0.0),
            told.get("termination"),
            told.get("turns", 0),
            text[:LONGEST_TEXT],
        ]


def log_eval(rollout_id: int, args: Any, data: dict[str, dict], extra_metrics: dict | None) -> bool:
    """Log an evaluation, one set of figures a dataset."""
    metrics: dict[str, float] = {}
    for name, dataset in data.items():
        metrics |= episode_metrics(flatten(dataset.get("samples") or []), f"tau2_eval/{name}")
    log_metrics(args, {**metrics, "eval/step": rollout_id}, "eval/step")
    return False
