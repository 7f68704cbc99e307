"""What is told of a rollout: a row for each group that it settled, and one for each of their samples. Dump and W&B get
the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from slime_tau2.config import Tau2Config
from slime_tau2.dumps.format import GroupRow, SampleRow, ServedRow
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.group_story import GroupStory
from slime_tau2.hooks.samples import ended, info, task_name, task_reward
from slime_tau2.hooks.training_reward import training_reward

KEPT_AFTER_ALL = "the filter dropped it, and too few others were left"
SAMPLE_COLUMNS = (
    "training_reward",
    "advantage",
    "partial",
    "trains",
    "why_not",
    "termination",
    "turns",
    "calls",
    "tool_errors",
    "response_tokens",
    "trained_tokens",
    "log_prob",
)
"""Fields of a `SampleRow` that a table has as they are."""


def segments(samples: Iterable[Sample]) -> list[int]:
    """For each sample, how many before it have its index: an episode may train as several."""
    met: Counter[int | None] = Counter()
    out = []
    for sample in samples:
        out.append(met[sample.index])
        met[sample.index] += 1
    return out


def sample_row(
    sample: Sample,
    training_reward: float | None,
    advantage: float | None = None,
    *,
    segment: int = 0,
    mask: bool = False,
) -> SampleRow:
    """The row of one finished sample.

    Args:
        training_reward, advantage: None where they are not known.
        segment: which of the samples of its index it is.
        mask: whether overlong episodes are kept out of training (`tau2_overlong`).
    """
    episode, reward, termination = info(sample), task_reward(sample), ended(sample)
    trained, log_probs = sample.loss_mask or [], sample.rollout_log_probs or []
    sampled = [p for p, m in zip(log_probs, trained) if m]
    overlong = mask and termination is not None and termination.exhausted
    trains = not sample.remove_sample
    return SampleRow(
        sample=sample.index,
        segment=segment,
        reward=reward,
        training_reward=training_reward,
        advantage=advantage if trains else None,
        trains=trains,
        why_not="" if trains else "overlong" if overlong else episode.get("termination", "removed"),
        termination=episode.get("termination", ""),
        detail=episode.get("detail", ""),
        partial=float(episode.get("partial", 0.0)),
        components=episode.get("components", {}),
        turns=episode.get("turns", 0),
        calls=episode.get("calls", 0),
        tool_errors=episode.get("tool_errors", 0),
        malformed=episode.get("malformed", 0),
        response_tokens=sample.response_length,
        trained_tokens=sum(trained),
        log_prob=fmean(sampled) if sampled else None,
        policy_s=episode.get("policy_s", 0.0),
        user_s=episode.get("user_s", 0.0),
        weights=list(dict.fromkeys(sample.weight_versions)),
    )


def rows_of(
    config: Tau2Config, samples: Sequence[Sample], advantages: Sequence[float | None] | None = None
) -> list[SampleRow]:
    """The rows of a finished group's samples under the run's options."""
    known = advantages or [None] * len(samples)
    masks = config.overlong == "mask"
    return [
        sample_row(s, training_reward(config, s, task_reward(s)), advantage, segment=segment, mask=masks)
        for s, advantage, segment in zip(samples, known, segments(samples), strict=True)
    ]


def group_rows(
    config: Tau2Config,
    samples: Sequence[Sample],
    advantages: Sequence[float | None],
    settled: dict[int, GroupStory],
) -> list[GroupRow]:
    """A row for each group that trains (`samples`) or was settled otherwise, in the order of serving.

    Args:
        advantages: one per sample; None where they are not known.
    """
    training: dict[int | None, list[tuple[Sample, float | None]]] = {}
    for sample, advantage in zip(samples, advantages, strict=True):
        training.setdefault(sample.group_index, []).append((sample, advantage))
    rows = []
    for key in dict.fromkeys([*settled, *training]):
        story = settled.get(key) if key is not None else None
        group = training.get(key, [])
        if story is None:
            story = GroupStory(task=task_name(group[0][0]), served=ServedRow(by=""))
        fate = "trained" if group else story.fate
        spared = fate == "trained" and story.verdict not in ("", "kept")
        domain, _, task = story.task.partition("/")
        rows.append(
            GroupRow(
                group=key,
                domain=domain,
                task=task,
                served=story.served,
                verdict=story.verdict,
                fate=fate,
                why=KEPT_AFTER_ALL if spared else "" if group else story.why,
                samples=rows_of(config, [s for s, _ in group], [a for _, a in group]) if group else story.rows,
            )
        )
    return rows


GROUP_COLUMNS = [
    "rollout",
    "group",
    "domain",
    "task",
    "served",
    "verdict",
    "fate",
    "why",
    "rewards",
    "training_rewards",
]
TABLE_COLUMNS = [
    "rollout",
    "group",
    "sample",
    "segment",
    "domain",
    "task",
    "served",
    "verdict",
    "reward",
    *SAMPLE_COLUMNS,
]


def group_table(rollout: int, rows: Iterable[GroupRow]) -> Iterable[list[object]]:
    """Rows of GROUP_COLUMNS: every group."""
    for row in rows:
        rewards = " ".join(f"{s['reward']:g}" for s in row["samples"])
        training = " ".join(f"{s['training_reward'] or 0.0:.2f}" for s in row["samples"])
        yield [
            rollout,
            row["group"],
            row["domain"],
            row["task"],
            reason(row["served"]),
            row["verdict"],
            row["fate"],
            row["why"],
            rewards,
            training,
        ]


def table_row(rollout: int, group: GroupRow, sample: SampleRow) -> list[object]:
    """A row of TABLE_COLUMNS: one sample."""
    place: list[object] = [rollout, group["group"], sample["sample"], sample["segment"], group["domain"], group["task"]]
    values: dict[str, object] = {**sample}
    story = [reason(group["served"]), group["verdict"], sample["reward"]]
    return [*place, *story, *(values[column] for column in SAMPLE_COLUMNS)]


def reason(served: ServedRow) -> str:
    """Why a task came next, in one line."""
    by = served["by"]
    if by in ("order", "shares"):
        why = f"{by}: pass {served.get('epoch')}, place {served.get('place')}"
    elif by == "curriculum":
        rate, weight = served.get("rate", 0.0), served.get("weight", 0.0)
        why = f"curriculum: {served.get('pool')}, rate {rate:.2f}, weight {weight:.3f}"
    elif by == "returned":
        why = f"returned: {served.get('after')}"
    else:
        why = by
    return why + (f"; behind {served['prefix']} messages of a success" if "prefix" in served else "")
