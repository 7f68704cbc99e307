"""What a training may not look at: test tasks at all, and in its evaluation the tasks that it trains on.

Checked when the data source is made, from the files that slime's `--eval-config` or `--eval-prompt-data` name, and
again at each evaluation sample, for whoever has another data source. `tau2_i_know: true` lets all of it pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from slime_tau2 import files
from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds
from slime_tau2.episode.splits import HELD_OUT, TEST
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option

USE_VAL = "evaluate on val (`slime-tau2 tasks --split val`), or say tau2_i_know: true"


def check_training(config: Tau2Config, tasks: Collection[str]) -> None:
    """See that none of the tasks that train (`domain/task_id`) is a test task.

    Raises:
        ConfigError: one is.
    """
    if config.i_know:
        return
    tested = [name for name in tasks if _tested(*name.split("/", 1))]
    if tested:
        raise ConfigError(
            f"tau2_split = {config.split}: {len(tested)} of its {len(tasks)} tasks are test tasks, the first "
            f"{tested[0]}; "
            "train on train, train+val or extra, or say tau2_i_know: true"
        )


def check_files(args: object, config: Tau2Config, trained: Collection[str]) -> None:
    """The same for the evaluation's data sets, as far as they are files that name tau2's tasks.

    Raises:
        ConfigError: one holds a test task, or one of `trained`; names the data set and the task.
    """
    for dataset in option(args, "eval_datasets", None) or ():
        key = option(dataset, "metadata_key", None) or option(args, "metadata_key", None) or "metadata"
        check(config, _named(str(dataset.path), key), trained, f"evaluation data {dataset.name} ({dataset.path})")


def check(config: Tau2Config, tasks: Iterable[tuple[str, str]], trained: Collection[str], what: str) -> None:
    """See that an evaluation (`what` names it) looks at none of `trained` and at no test task.

    Args:
        tasks: (domain, task id) of what is evaluated.

    Raises:
        ConfigError: at the first task of which that is not so.
    """
    if config.i_know:
        return
    for domain, task_id in tasks:
        if f"{domain}/{task_id}" in trained:
            raise ConfigError(f"{what}: {domain}/{task_id} is trained on (tau2_split = {config.split}); {USE_VAL}")
        if _tested(domain, task_id):
            raise ConfigError(
                f"{what}: {domain}/{task_id} is a test task, and no checkpoint may be chosen by one; {USE_VAL}"
            )


def _tested(domain: str, task_id: str) -> bool:
    splits = worlds.task_splits(domain)
    held = (TEST, HELD_OUT) if worlds.task_set(domain) is not None else (TEST,)
    return any(task_id in splits.get(name, ()) for name in held)


def _named(path: str, key: str) -> Iterator[tuple[str, str]]:
    """(domain, task id) of the rows of a JSONL file; none of another file, or of a part of one (`path@[0:8]`): its
    samples are checked.

    Raises:
        ConfigError: the file cannot be read, or a line is not UTF-8 or not JSON.
    """
    if not path.endswith(".jsonl") or not Path(path).is_file():
        return
    for number, line in files.read_lines(Path(path)):
        row = files.parsed(line, f"{path}, line {number}") if line.strip() else {}
        metadata = row.get(key) if isinstance(row, dict) else None
        if isinstance(metadata, dict) and {"domain", "task_id"} <= metadata.keys():
            yield str(metadata["domain"]), str(metadata["task_id"])
