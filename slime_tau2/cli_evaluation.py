"""The commands about evaluation: run, compare, show, and exchange results with tau2 and Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.options import parse_assignments

console = Console()


def evaluate(
    output: Annotated[Path, typer.Option(help="Directory of the results; the same command resumes.")],
    domain: Annotated[
        str, typer.Option(help="Domain or task set (./sets/NAME), or several separated by commas.")
    ] = "helpdesk",
    split: Annotated[str | None, typer.Option(help="By default test, or base in a domain without it.")] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="gold, noop, transfer-only, empty-arguments, a model directory, an SGLang URL, or an "
            "OpenAI-compatible one (…/v1)."
        ),
    ] = "gold",
    model: Annotated[str | None, typer.Option(help="Model of an OpenAI-compatible server.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="card (the model card's settings) or leaderboard (tau2's); options win over it.")
    ] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts at each task, by default 1.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task id; repeatable.")] = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="scripted, llm (a model: --set user_base_url=… user_model=…), gold or plain; by default what suits "
            "the policy."
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="By default 1.0.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="By default 1.0.")] = None,
    top_k: Annotated[int | None, typer.Option(help="By default -1: all tokens.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer directory; needed with an SGLang server's URL.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1)] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes that play the attempts; 0: this one.")] = 0,
    seed: int = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved plan and an estimate of tokens, and stop.")
    ] = False,
    like: Annotated[
        Path | None, typer.Option(help="With --dry-run: an earlier run, whose tokens an attempt will take.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="With --dry-run: a table of prices (docs/evaluation.md).")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE of a tau2 option, e.g. max_turn_tokens=64; repeatable. `slime-tau2 options` lists them.",
        ),
    ] = None,
) -> None:
    """Evaluate a policy: plan.json, attempts.jsonl and summary.json; exit code 2 where an attempt has no score."""
    from slime_tau2.evaluation import runs
    from slime_tau2.evaluation.dry_run import DryRun
    from slime_tau2.evaluation.evaluate import main as run
    from slime_tau2.evaluation.request import EvalRequest

    if not dry_run and (like or prices):
        raise ConfigError(
            "--like and --prices are for --dry-run; of a run that is there, `slime-tau2 report --prices` tells the cost"
        )
    request = EvalRequest(
        output=output,
        domain=domain,
        policy=policy,
        model=model,
        tokenizer=tokenizer,
        preset=preset,
        split=split,
        tasks=task,
        attempts=attempts,
        user=user,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        concurrency=concurrency,
        workers=workers,
        seed=seed,
        options=parse_assignments(set_ or [], Tau2Config.model_fields, "--set"),
    )
    finished = run(request, console, DryRun(like, prices) if dry_run else None)
    if finished is not None:
        runs.require_scores(finished.coverage, finished.records, output)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Directories of `slime-tau2 eval`; the first is the baseline.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare runs of other tasks, users or reward bases too, and say so.")
    ] = False,
) -> None:
    """Compare runs on the same tasks: pass@k, pass^k, paired differences with intervals, an exact sign test."""
    from slime_tau2.evaluation.compare import main as run

    run(runs, anyway, console)


def select(
    runs: Annotated[
        list[Path], typer.Argument(help="Directories of `slime-tau2 eval --split val`, one for each checkpoint.")
    ],
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Choose by test tasks too: the chosen one's test score is then too high.")
    ] = False,
) -> None:
    """Choose a checkpoint by its val tasks: ranked by pass@1, equal ones as named, and whether the next can be told
    from it.
    """
    from slime_tau2.evaluation.select import main as run

    run(runs, i_know, console)


def plan(
    effect: Annotated[float, typer.Option(help="The improvement to be seen, in points.")],
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="Run of the policy to be beaten, with 2 or more attempts; repeatable, one per seed."),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="Instead of runs: a study, whose primary comparison says how tasks gain and what a seed changes."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run of another policy on the same tasks: how unevenly tasks gain; repeatable, one per seed: what a "
            "seed of training changes."
        ),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain of a run that has several.")] = None,
    task_set: Annotated[
        list[str] | None, typer.Option(help="Domain or task set (./sets/NAME) to ask about too; repeatable.")
    ] = None,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="Chance to see the effect.")] = 0.8,
    prices: Annotated[
        Path | None, typer.Option(help="A table of prices, which turns tokens into money (docs/evaluation.md).")
    ] = None,
) -> None:
    """How many tasks, attempts and seeds show an improvement over a run, or over a study's control, what they cost, and
    which task sets are large enough.
    """
    from slime_tau2.evaluation import power_evidence, power_plan
    from slime_tau2.factory import factories

    question = power_plan.Question(effect=effect, power=power)
    if bool(baseline) == (study is not None):
        raise ConfigError("name what is to be beaten: --baseline RUN, or --study DIR, one of them")
    if study is not None:
        alone = {"--against": against, "--domain": domain, "--prices": prices}
        if unread := [option for option, value in alone.items() if value]:
            raise ConfigError(f"{', '.join(unread)}: of runs, not of a study; leave it out")
        from slime_tau2.experiments import study_plan

        found = study_plan.evidence(study, task_set or ())
    else:
        named = power_evidence.Named(
            baseline=baseline or (),
            against=against or (),
            domain=domain,
            task_sets=task_set or (),
            prices=prices,
        )
        found = power_evidence.of_runs(named, {name: factories.of(name).held_out for name in factories.DOMAINS})
    power_plan.main(question, found, console)


def report(
    directories: Annotated[
        list[Path], typer.Argument(help="A quickstart run, a study, or runs of `slime-tau2 eval` side by side.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="The page; by default report.html in the first directory.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="A table of prices, which turns tokens into money (docs/evaluation.md).")
    ] = None,
) -> None:
    """Print tables and what went wrong, and write one page with plots and every conversation (of a quickstart
    report.json, too).
    """
    from slime_tau2.experiments.directory import kind

    for directory in directories:
        what = kind(directory)
        if what is None:
            continue
        if len(directories) > 1:
            raise ConfigError(f"{directory} is a {what}, which has a report of its own: name it alone")
        if prices is not None:
            raise ConfigError(f"--prices: a {what}'s report has no such thing; leave it out")
        if what == "quickstart":
            from slime_tau2.experiments.quickstart import write_report

            write_report(directory, console, output)
            return
        if output is not None:
            raise ConfigError(f"--output: a {what}'s report has no such thing; leave it out")
        from slime_tau2.experiments.study_report import write_report as write_study

        write_study(directory, console)
        return
    from slime_tau2.evaluation.report import write

    write(directories, output, prices, console)


def export_tau2(
    run: Annotated[Path, typer.Argument(help="Directory of `slime-tau2 eval`.")],
    output: Annotated[
        Path, typer.Option(help="tau2's results.json, or a folder for a run of several domains; must not exist.")
    ],
    model_name: Annotated[
        str | None, typer.Option(help="What to call the agent's model; by default the run's --model or --policy.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Export a run too that is not whole.")] = False,
) -> None:
    """Write a run as tau2's own results, for its viewer, its metrics and its leaderboard."""
    from slime_tau2.evaluation.tau2_export import export_run

    done = export_run(run, output, model_name, partial)
    print(
        f"{done.written} simulations written to {output}"
        + (f"; PARTIAL: {done.left_out} attempts have no score" if done.left_out else "")
    )
    for reason in done.refused:
        print(f"tau2's leaderboard would not take it: {reason}")


def import_tau2(
    results: Annotated[Path, typer.Argument(help="A results.json of tau2.")],
    output: Annotated[Path, typer.Option(help="Directory, as of `slime-tau2 eval`; must not exist.")],
) -> None:
    """Read tau2's results, published ones too, so that report and compare treat them as any other run."""
    from slime_tau2.evaluation.tau2_import import import_results

    print(f"{import_results(results, output)}: {output}; slime-tau2 report {output} shows them")


def card(
    runs: Annotated[list[Path], typer.Argument(help="Directories of `slime-tau2 eval`.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    output: Annotated[Path, typer.Option(help="The card, e.g. README.md beside the weights; must not exist.")],
    base_model: Annotated[str | None, typer.Option(help="Repository that training started from.")] = None,
    license_name: Annotated[str, typer.Option("--license")] = "apache-2.0",
    partial: Annotated[
        bool, typer.Option("--partial", help="Take runs too that are not whole, and say so in the title.")
    ] = False,
    prices: Annotated[Path | None, typer.Option(help="A table of prices, which turns tokens into money.")] = None,
) -> None:
    """Write a Hugging Face model card whose every number comes from a run's own records."""
    from slime_tau2.evaluation.card import write

    write(
        runs,
        output,
        name=name,
        base_model=base_model,
        license_name=license_name,
        partial=partial,
        prices=prices,
        console=console,
    )
