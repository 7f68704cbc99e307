"""`slime-tau2 plan --study`: what the primary comparison of a study says about the size of the next one.

Its control is the baseline, and its other side the second policy, paired by seed: so what differs between tasks,
between seeds, and from task to task with the seed is measured, on tasks and trainings of the study's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from slime_tau2 import files
from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import costs, variance
from slime_tau2.evaluation.power_evidence import Evidence, further
from slime_tau2.evaluation.power_tables import PLANNED, Answers
from slime_tau2.experiments.study_cells import Cells, Result
from slime_tau2.experiments.study_grid import START, StudySettings


def evidence(directory: Path, task_sets: Sequence[str]) -> Evidence:
    """What the cells that have ended say.

    Raises:
        ConfigError: no study, none whose primary comparison has both sides, or one that says too little.
    """
    settings = files.read_as(directory / StudySettings.FILE, StudySettings, complete=True)
    results = Cells(directory, settings).results()
    cell, control = settings.primary
    ours, theirs = (results.get(name, {}) for name in settings.primary)
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        raise ConfigError(
            f"{directory}: no seed has both {cell} and {control} yet; run: slime-tau2 study --output {directory}"
        )
    try:
        a, b = variance.cells([theirs[s].successes for s in seeds], [ours[s].successes for s in seeds])
    except ValueError as error:
        raise ConfigError(f"{directory} says too little of what differs between tasks: {error}") from error
    trained = {
        name: [results[name][s] for s in seeds if s in results.get(name, {})] for name in (START, *settings.primary)
    }
    name = Path(settings.pipeline["tasks"]).name  # the set itself need not be here
    return Evidence(
        name=f"{control} of {directory}, and {cell} against it",
        domains=[name],
        attempts=settings.pipeline["eval_attempts"],
        a=a,
        b=b,
        sizes={"the study's": int(a.rates.shape[1]), **further(task_sets)},
        after=lambda answers: [*_made_lines(answers, name), *_cost_lines(answers, trained)],
    )


def _made_lines(answers: Answers, name: str) -> list[str]:
    """Where a set that is large enough comes from."""
    if name == NAME:
        return []
    return [f"the command that made {name} makes enough with {answers.size:,} held-out tasks"]


def _cost_lines(answers: Answers, trained: dict[str, list[Result]]) -> list[str]:
    """Tokens and time of another seed: its trainings, and the evaluation of both sides on the tasks of the plan."""
    lines = ["what a seed costs, at what one took here:"]
    for name, cells in trained.items():
        if cells:
            sampled, learned, minutes = (
                fmean(values)
                for values in zip(
                    *((c.spending.sampled_tokens, c.spending.trained_tokens, c.wall_s / 60) for c in cells)
                )
            )
            lines.append(
                f"  {name}: {costs.millions(sampled)} tokens sampled, {costs.millions(learned)} trained on, "
                f"{minutes:.0f} minutes, its evaluation included"
            )
    each = fmean(cell.behaviour["tokens"] for name, cells in trained.items() if name != START for cell in cells)
    conversations = 2 * PLANNED * answers.size
    lines.append(
        f"  evaluating both on the plan's {answers.size:,} tasks × {PLANNED} attempts: {conversations:,} "
        f"conversations, {costs.millions(conversations * each)} tokens sampled"
    )
    return lines
