"""The commands about task sets: import, verify, make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from slime_tau2 import options
from slime_tau2.errors import ConfigError

if TYPE_CHECKING:
    from slime_tau2.episode.world import World
    from slime_tau2.tasksets.writing import Verdict as KeptVerdict
    from slime_tau2.verification.verify import Verdict

EVALUATED, FEWEST_EVALUATED = 0.02, 50
"""The share of tasks that tau2's own evaluator grades too, and about how many at least."""
REFUSED = 2
"""Exit code of `verify-tasks` where a set has refused tasks."""


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
        in_vain = {"--domain": domain, "--database": database, "--splits": splits}
        options.refuse_in_vain(in_vain, "the rows of the areal format say it themselves")
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


def verify_tasks(
    source: Annotated[str, typer.Argument(help="A task set (./sets/NAME), or a domain of tau2.")],
    split: Annotated[
        str | None, typer.Option(help="Tasks of this split; by default all of a set, `base` of a domain.")
    ] = None,
    checks: Annotated[str | None, typer.Option(help="Numbers of the checks to make, by default of all.")] = None,
    evaluated: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the tasks whose gold tau2's own evaluator grades too: slow. By default 0.02, and about "
            "50 tasks at least.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="A kind of finding that refuses nothing here; repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the verdicts here (JSONL); by default into the set: verified.jsonl.")
    ] = None,
    allow_refused: Annotated[
        bool, typer.Option("--allow-refused", help="Exit code 0 although tasks are refused.")
    ] = False,
) -> None:
    """Check that tasks are what they say: no model, no network. Exit code 2 where a set has refused tasks."""
    from slime_tau2 import bench, files
    from slime_tau2.episode import worlds
    from slime_tau2.tasksets import manifest
    from slime_tau2.verification import report

    numbers, accepted = _numbers(checks), _kinds(accept or ())
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise ConfigError(f"--output {output}: no file in a directory that is there; name one")
    world = worlds.load(source, retrieval=bench.LEAST_RETRIEVAL, verdicts=False)
    whole = split is None and checks is None
    task_ids = list(world.tasks) if split is None and world.task_set else world.task_ids(split or "base")
    share = max(EVALUATED, FEWEST_EVALUATED / max(1, len(task_ids))) if evaluated is None else evaluated
    verdicts = _verify(world, task_ids, numbers, min(1.0, share))
    Console().print(report.table(verdicts, numbers, accepted))
    print(f"tau2's own evaluator graded {sum(v.evaluated for v in verdicts)} of them too" if 1 in numbers else "")
    rows = report.rows(verdicts, accepted)
    if output is not None:
        files.write_whole(output, (manifest.as_json(row.row()) + "\n" for row in rows))
        print(f"{len(rows)} verdicts written to {output}")
    elif world.task_set is not None and whole:
        _keep(world.task_set.directory, rows, numbers, accepted)
        print(f"verdicts written to {world.task_set.directory / manifest.VERIFIED}")
    elif world.task_set is not None:
        print("not the whole set by all checks: its verified.jsonl was left as it is; --output keeps the verdicts")
    refused = sum(not row.passed for row in rows)
    if refused and world.task_set is not None and not allow_refused:
        raise typer.Exit(REFUSED)


def _numbers(checks: str | None) -> list[int]:
    from slime_tau2.verification.checks import CHECKS

    if checks is None:
        return list(CHECKS)

    chosen = [part.strip() for part in checks.split(",")]
    for part in chosen:
        if not part.isdigit() or int(part) not in CHECKS:
            known = ", ".join(f"{number} {what}" for number, what in CHECKS.items())
            raise ConfigError(f"--checks {checks}: {part!r} is none; there are {known}")
    return sorted({int(part) for part in chosen})


def _kinds(accept: Sequence[str]) -> list[str]:
    from slime_tau2.verification.checks import KINDS

    refusing = sorted(kind for kind, what in KINDS.items() if what.refuses)
    for kind in accept:
        if kind not in refusing:
            raise ConfigError(f"--accept {kind}: {options.unknown(kind, refusing)}")
    return list(accept)


def _verify(world: World, task_ids: Sequence[str], checks: Collection[int], evaluated: float) -> list[Verdict]:
    from slime_tau2 import bench
    from slime_tau2.episode import worlds
    from slime_tau2.factory import attempts, rulings
    from slime_tau2.verification.verify import Verifier

    anew = rulings.of if rulings.supported(world.domain) else None
    own = world if world.task_set is None else worlds.load(world.domain, retrieval=bench.LEAST_RETRIEVAL)
    tried = attempts if attempts.supported(world.domain) else None
    verifier = Verifier(world, own, checks=checks, evaluated=evaluated, rulings=anew, attempts=tried)
    verdicts = verifier.verify_all(task_ids)
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return list(track(verdicts, "verify", len(task_ids), console=console, transient=True, disable=hidden))


def _keep(directory: Path, rows: Sequence[KeptVerdict], checks: Sequence[int], accepted: Sequence[str]) -> None:
    """Write the verdicts into their set."""
    from slime_tau2.tasksets import writing
    from slime_tau2.verification.checks import CHECKS

    names = [f"{number} {CHECKS[number]}" for number in checks] + [f"accepted: {kind}" for kind in accepted]
    writing.write_verified(directory, rows, checks=names)


def make_tasks(
    domain: Annotated[str, typer.Option(help="airline, retail, telecom or helpdesk.")],
    count: Annotated[int, typer.Option(min=1, help="Tasks.")],
    output: Annotated[Path, typer.Option(help="The task set's directory, which must not exist, or be empty.")],
    family: Annotated[
        str | None, typer.Option(help="helpdesk: `cases`, long conversations of several requests.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="What options and records call the set; by default the directory's name.")
    ] = None,
    refused: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of tasks in which there is nothing to do but to say no.")
    ] = 0.04,
    transferred: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of tasks that only end with a person.")
    ] = 0.05,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make the eight checks too; a set trains nothing until it is verified.")
    ] = False,
    rewrite: Annotated[
        str | None, typer.Option(help="URL/v1 of an OpenAI-compatible server that tells the stories in other words.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its model.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable of its key.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Stories at a time that it is asked for, by default 32.")
    ] = None,
) -> None:
    """Make a task set from a domain's database and policy, by number and seed: no model, no network."""
    from slime_tau2.factory import sets

    if refused + transferred > 1:
        raise ConfigError(f"--refused {refused:g} and --transferred {transferred:g} are more than all tasks together")
    if (rewrite is None) != (model is None):
        raise ConfigError("--rewrite URL/v1 and --model NAME go together")
    in_other_words = None
    if rewrite is None:
        options.refuse_in_vain({"--key-env": key_env, "--concurrency": concurrency}, "it is an option of --rewrite")
    if rewrite is not None and model is not None:
        from slime_tau2.factory.rewrite import rewriter

        in_other_words = rewriter(rewrite, model, key_env=key_env, seed=seed, concurrency=concurrency or 32)
    made = sets.make_set(
        output,
        name=name or output.resolve().name,
        factory=f"{domain}-{family}" if family else domain,
        count=count,
        seed=seed,
        refused=refused,
        transferred=transferred,
        rewrite=in_other_words,
    )
    print(made.coverage.table())
    if told := made.stored.manifest.provenance.get("rewrite"):
        print(f"rewritten: {told}")
    sizes = ", ".join(f"{split} {len(ids)}" for split, ids in made.stored.manifest.splits.items())
    print(f"{len(made.stored.tasks)} tasks written to {output}: {sizes}")
    if verify:
        verify_tasks(str(output))
    else:
        print(f"not verified yet, so that nothing trains on it: slime-tau2 verify-tasks {output}")
