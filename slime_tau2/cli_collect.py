"""`slime-tau2 collect`: a teacher's traces as SFT rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from slime_tau2 import traits
from slime_tau2.cli_data import BEST, DOMAINS, write_rows
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.errors import ConfigError
from slime_tau2.options import parse_assignments, refuse_in_vain

if TYPE_CHECKING:
    from slime_tau2.episode.world import World
    from slime_tau2.evaluation.plan import RunSettings
    from slime_tau2.evaluation.request import EvalRequest
    from slime_tau2.types import Episode

TEACHER, EXPERT = "teacher", "expert"
"""The policies that are scripts: a domain's own, and the factory's."""
SCRIPTS_OF_OURS = (TEACHER, EXPERT)


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
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that play a model's attempts.")] = None,
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
    """Collect a teacher's traces on the train tasks (--split) as SFT rows; a model's and the expert's resume from
    OUTPUT's .attempts directory.
    """
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
            "--workers": workers,
            **{f"--set {key}": value for key, value in options.items() if key not in ("plugins", "unverified")},
        }
        refuse_in_vain(in_vain, f"--policy {policy} is a script and does not read it")
        count = 1000 if episodes is None else episodes
        if policy == EXPERT:
            refuse_in_vain({"--flaws": flaws}, f"it is an option of --policy {TEACHER}")
            _collect_expert(names, output, episodes=count, seed=seed, split=split, unverified=config.unverified)
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
    refuse_in_vain({"--episodes": episodes, "--flaws": flaws}, f"it is an option of --policy {TEACHER}")
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
        workers=workers or 0,
        seed=seed,
        options=options,
        defaults={"retail_basis": "communicate"},
    )
    least = 1.0 if min_partial is None else min_partial
    _collect_model(output, request, min_partial=least, best=best, unverified=config.unverified)


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


def _collect_expert(
    names: Sequence[str], output: Path, *, episodes: int, seed: int, split: str, unverified: bool
) -> None:
    """Conversations of the scripted expert on tasks of the factory, each worth the whole reward."""
    from slime_tau2.data import held_out
    from slime_tau2.data.traces import write_jsonl
    from slime_tau2.evaluation import played
    from slime_tau2.factory import traces

    stock = {
        name: traces.repertoire(name, episodes, seed, split=split, held=held_out.held_out(name, split, unverified))
        for name in names
    }

    async def play(world: World, task_id: str, seed: int) -> Episode:
        return await stock[world.name].play(task_id, seed)

    directory = output.with_suffix(".attempts")
    settings: RunSettings = {"policy": "scripted expert", "user": "scripted", "protocol": "native"}
    worlds = {name: of.world for name, of in stock.items()}
    tasks = {name: list(of.made) for name, of in stock.items()}
    found = played.play(directory, worlds, tasks, play, seed=seed, settings=settings)
    rows = [row for name in names for row in traces.rows(worlds[name], (r for r in found if r["domain"] == name))]
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
    if config.agent is not None:
        raise ConfigError(
            f"tau2_agent = {config.agent}: rows are made of what tau2 heard, and the agent's own prompts are not among "
            "it; collect with our own agent, and leave tau2_agent out"
        )
    finished = evaluate(request, Console())
    assert finished is not None, "this was no dry run"
    assert request.split is not None, "collect has a default"
    write_rows(output, *sft.from_attempts([request.output / FILE], min_partial, best, config, request.split))
    runs.require_scores(finished.coverage, finished.records, request.output)
