"""`--custom-rollout-log-function-path` and its evaluation twin: what the episodes did, by domain."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

from slime_tau2.hooks.compat import Sample, flatten, log_metrics
from slime_tau2.hooks.generate import take_faults


def episode_metrics(samples: list[Sample], prefix: str) -> dict[str, float]:
    """Reward, partial, lengths, errors and terminations of a batch, over all and by domain. Pure."""
    out: dict[str, float] = {}
    domains = sorted({s.metadata.get("domain", "") for s in samples})
    for domain in ["", *(domains if len(domains) > 1 else [])]:
        part = [s for s in samples if not domain or s.metadata.get("domain") == domain]
        valid, name = [s for s in part if not s.remove_sample], f"{prefix}/{domain}/" if domain else f"{prefix}/"
        info = [s.metadata.get("tau2") or {} for s in valid]
        for termination, count in Counter((s.metadata.get("tau2") or {}).get("termination", "unknown") for s in part).items():
            out[f"{name}ended_{termination}"] = count / len(part)
        if valid:
            out[f"{name}reward"] = fmean(float(s.reward or 0.0) for s in valid)
            out[f"{name}partial"] = fmean(i.get("partial", 0.0) for i in info)
            out[f"{name}turns"] = fmean(i.get("turns", 0) for i in info)
            out[f"{name}tool_errors"] = fmean(i.get("tool_errors", 0) for i in info)
            out[f"{name}malformed_calls"] = fmean(i.get("malformed", 0) for i in info)
            out[f"{name}user_s"] = fmean(i.get("user_s", 0.0) for i in info)
            out[f"{name}user_stopped_early"] = fmean(bool(i.get("user_stopped_early")) for i in info)
            out[f"{name}response_tokens"] = fmean(s.response_length for s in valid)
        out[f"{name}dropped"] = 1 - len(valid) / len(part) if part else 0.0
    return out


def log_rollout(rollout_id: int, args: Any, samples: list[Sample], rollout_extra_metrics: dict | None, rollout_time: float) -> bool:
    """Log a training rollout; False lets slime's default logging run too."""
    metrics = episode_metrics(flatten(samples), "tau2")
    metrics |= {f"tau2/faults/{kind}": float(n) for kind, n in take_faults().items()}
    metrics["tau2/episodes_per_s"] = len(samples) / rollout_time if rollout_time else 0.0
    log_metrics(args, {**metrics, "rollout/step": rollout_id}, "rollout/step")
    return False


def log_eval(rollout_id: int, args: Any, data: dict[str, dict], extra_metrics: dict | None) -> bool:
    """Log an evaluation, one set of figures a dataset."""
    metrics: dict[str, float] = {}
    for name, dataset in data.items():
        metrics |= episode_metrics(flatten(dataset.get("samples") or []), f"tau2_eval/{name}")
    log_metrics(args, {**metrics, "eval/step": rollout_id}, "eval/step")
    return False
