"""`slime-tau2 select`: the best checkpoint by its evaluation on the split `val`, and whether that is distinguishable.

Runs are ranked by pass@1, the mean over tasks; of equal ones the first that was named is chosen. A run that holds test
tasks, that is not a whole split, or that was not made as the others were is refused: the best of several noisy scores
is no place for a second source of error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slime_tau2.episode import worlds
from slime_tau2.episode.splits import TEST, VAL
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import compare, estimators, runs
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell, points

SAME = (
    "temperature",
    "top_p",
    "top_k",
    "protocol",
    "thinking",
    "agent_prompt_sha256",
    "agent",
    "agent_sha256",
    "max_turn_tokens",
    "max_thinking_tokens",
    "cut_thoughts",
    "max_context_tokens",
)
"""Settings that checkpoints to choose from share, beside those that make scores comparable at all (`compare`)."""


def main(directories: Sequence[Path], i_know: bool, console: Console) -> None:
    """Print the ranking, the chosen one, and what tells it from the next.

    Raises:
        ConfigError: fewer than two runs; one that is not a whole split, or, unless `i_know`, that holds test tasks; or
            one that was evaluated on other tasks, less often or otherwise.
    """
    if len(directories) < 2:
        raise ConfigError("name at least two runs of `slime-tau2 eval --split val` to choose from")
    candidates = runs.load_all(directories)
    for run in candidates:
        _check(run, i_know)
    _alike(candidates)
    ranked = sorted(candidates, key=lambda run: -_score(run).value)
    console.print(_table(ranked))
    console.print(_verdict(ranked[0], ranked[1]), soft_wrap=True, highlight=False)
    console.print(
        f"its score here is the best of {len(ranked)}, and so too high; its final score is the test split's",
        soft_wrap=True,
    )
    console.print(f"chosen: {ranked[0].directory}", soft_wrap=True, highlight=False)


def _score(run: EvaluatedRun) -> estimators.Estimate:
    return estimators.bootstrap_mean(list(run.rates.values()))


def _check(run: EvaluatedRun, i_know: bool) -> None:
    tested = _count(run, lambda task, splits: task in splits.get(TEST, ()))
    if tested and not i_know:
        raise ConfigError(
            f"{run.directory}: {tested} of its {len(run.plan.keys)} tasks are test tasks, and a checkpoint that "
            "is chosen by them has no honest score left; evaluate with --split val, or say --i-know"
        )
    trained = _count(run, lambda task, splits: VAL in splits and task not in splits[VAL])
    if trained and not i_know:
        raise ConfigError(
            f"{run.directory}: {trained} of its {len(run.plan.keys)} tasks are not of the split val: a checkpoint "
            "may have trained on them; evaluate with --split val, or say --i-know"
        )
    if not run.coverage.whole:
        raise ConfigError(f"{run.directory} is not whole: {run.coverage}; the same eval command runs what is missing")
    if not all(s.whole for s in run.plan.sets):
        raise ConfigError(f"{run.directory}: {run.plan.name} is no whole split; evaluate the split")


def _count(run: EvaluatedRun, belongs: Callable[[str, Mapping[str, Sequence[str]]], bool]) -> int:
    """The run's tasks for which `belongs(task, splits of its domain)`."""
    return sum(belongs(task, worlds.task_splits(s.domain)) for s in run.plan.sets for task in s.tasks)


def _alike(candidates: Sequence[EvaluatedRun]) -> None:
    first = candidates[0]
    for other in candidates[1:]:
        if set(other.plan.keys) != set(first.plan.keys):
            raise ConfigError(
                f"{other.name} was evaluated on {other.plan.name}, {first.name} on {first.plan.name}; evaluate "
                "both on one"
            )
        if other.plan.attempts != first.plan.attempts:
            raise ConfigError(
                f"{other.name} has {other.plan.attempts} attempts at each task, {first.name} "
                f"{first.plan.attempts}; give each as many"
            )
    differing = compare.unlike(candidates, set(first.plan.keys))
    for key in SAME:
        values = {run.name: run.plan.settings.get(key) for run in candidates}
        if any(value != values[first.name] for value in values.values()):
            differing.append(f"{key}: " + ", ".join(f"{name} {value!r}" for name, value in values.items()))
    if differing:
        raise ConfigError(
            f"the checkpoints were not evaluated alike ({'; '.join(differing)}); evaluate each in the same way"
        )


def _table(ranked: Sequence[EvaluatedRun]) -> Table:
    best = ranked[0]
    table = Table(title=f"{best.plan.name} (%, 95 % CI over tasks)", title_justify="left")
    for column in ("", "tasks", "attempts", "pass@1", "chosen minus this one", "better, worse", "sign test p"):
        table.add_column(column, justify="left" if column == "" else "right")
    for run in ranked:
        row = [run.name, str(len(run.rates)), str(run.plan.attempts), cell(_score(run))]
        if run is not best:
            difference = estimators.paired_difference(run.rates, best.rates)
            sign = estimators.sign_test(run.rates, best.rates)
            row += [points(difference), f"{sign.better}, {sign.worse}", f"{sign.p:.2g}"]
        table.add_row(*row)
    return table


def _verdict(best: EvaluatedRun, second: EvaluatedRun) -> str:
    """Whether the runner-up can be told from the chosen one: paired interval without zero, sign test below 5 %."""
    difference = estimators.paired_difference(second.rates, best.rates)
    sign = estimators.sign_test(second.rates, best.rates)
    if _score(best).value == _score(second).value:
        return f"{second.name} scored the same: of equal ones the one that was named first is chosen"
    if difference.low > 0 and sign.p < 1 - estimators.LEVEL:
        return (
            f"{second.name}, the runner-up, is distinguishable from it: {points(difference)} points, "
            f"sign test p {sign.p:.2g}"
        )
    shown = 100 * estimators.smallest_difference(second.rates, best.rates)
    return (
        f"{second.name}, the runner-up, is not distinguishable from it: {points(difference)} points, "
        f"sign test p {sign.p:.2g}; so many tasks and attempts show a true difference of {shown:.1f} points four times "
        "in five"
    )
