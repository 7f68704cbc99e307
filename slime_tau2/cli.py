"""The command line: `slime-tau2 …`. Parses, calls, prints; every error of the user's is one line with its fix."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import slime_tau2
from slime_tau2 import cli_collect, cli_data, cli_evaluation, cli_options, cli_rollouts, cli_tasks, plugins
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.errors import InfrastructureError, UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()


def _version(asked: bool) -> None:
    if not asked:
        return
    from slime_tau2 import vintage
    from slime_tau2.errors import BenchDataError

    try:
        tau2 = str(vintage.find())
    except BenchDataError as error:
        tau2 = f"no tau2: {error}"
    print(f"slime_tau2 {slime_tau2.__version__}, {tau2}")
    raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the versions of this and of tau2."),
    ] = False,
) -> None:
    """Train and evaluate tool-using agents on tau2-bench."""


def serve(
    model: Annotated[Path, typer.Argument(help="Directory of a Hugging Face model.")],
    host: str = "127.0.0.1",
    port: int = 30000,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda when there is one.")] = None,
    with_parent: Annotated[int | None, typer.Option("--with-parent", hidden=True)] = None,
) -> None:
    """Serve a small model with SGLang's /generate protocol."""
    from slime_tau2.local.serving import serve as run

    run(model, host=host, port=port, device=device, threads=threads, with_parent=with_parent)


def quickstart(
    output: Annotated[
        Path, typer.Option(help="Where everything goes; the same command resumes an interrupted run.")
    ] = Path("outputs/quickstart"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A run of about a minute that learns nothing.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of a pipeline setting; repeatable. `slime-tau2 options` lists them."),
    ] = None,
) -> None:
    """SFT → RFT → GRPO → evaluation → Hugging Face model on the bundled domain."""
    from slime_tau2.experiments.quickstart import main as run

    run(output, smoke, set_ or [], console)


def study(
    output: Annotated[
        Path, typer.Option(help="Where everything goes; the same command resumes an interrupted study.")
    ] = Path("outputs/study"),
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of the primary comparison; the others have three of them at most.")
    ] = 5,
    seed: Annotated[
        list[int] | None, typer.Option(help="Run the cells of this seed alone; repeatable. Seeds count from 0.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Run this cell alone, and what it needs; repeatable."),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few minutes that learn nothing.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of a pipeline setting; repeatable. `slime-tau2 options` lists them."),
    ] = None,
) -> None:
    """Train GRPO, variants of it and rejection sampling at equal budgets over seeds, and say which differences are
    real.
    """
    from slime_tau2.experiments.study import main as run

    run(
        output=output,
        seeds=seeds,
        only_seeds=seed or [],
        only_cells=only or [],
        smoke=smoke,
        assignments=set_ or [],
        console=console,
    )


def export_hf(
    checkpoint: Annotated[
        Path, typer.Argument(help="torch_dist checkpoint of Megatron: iter_0000100, or the folder above it.")
    ],
    hf_config: Annotated[
        Path, typer.Option(help="Hugging Face directory that training started from: config, tokenizer.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of the Hugging Face model; must not exist, or be empty.")],
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, float16 or float32; by default the checkpoint's.")
    ] = None,
    shard_gib: Annotated[float, typer.Option(min=0.001, help="Most weights in a file, in GiB.")] = 2.0,
) -> None:
    """Convert a Megatron checkpoint to a Hugging Face model, without a GPU and in little memory."""
    import time

    from slime_tau2.checkpoints.export import export

    started = time.perf_counter()
    done = export(checkpoint, hf_config, output, dtype=dtype, shard_bytes=int(shard_gib * 2**30))
    seconds = time.perf_counter() - started
    print(
        f"{done.tensors} tensors, {done.size / 2**30:.2f} GiB in {done.shards} files, "
        f"{done.size / seconds / 1e6:.0f} MB/s: {output}"
    )


def doctor(
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the run needs on this node.")] = 0,
    train: Annotated[bool, typer.Option("--train", help="slime and Megatron are needed.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="SGLang is needed.")] = False,
    model: Annotated[
        list[Path] | None, typer.Option(help="A Hugging Face model: its files, its chat template; repeatable.")
    ] = None,
    rotary_base: Annotated[
        int | None, typer.Option(help="Megatron's --rotary-base, to be compared with the first model's.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="URL of the policy's SGLang server.")] = None,
    user: Annotated[
        str | None, typer.Option(help="URL of the user simulator (…/v1); it is asked to call a tool.")
    ] = None,
    user_model: Annotated[str | None, typer.Option(help="Model of the user simulator.")] = None,
    user_key: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the user simulator's key; OpenAI's own needs none named.",
        ),
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of Ray's job server.")] = None,
    port: Annotated[list[int] | None, typer.Option(help="A port that must be free; repeatable.")] = None,
    output: Annotated[Path, typer.Option(help="Where the run will write.")] = Path(),
    disk: Annotated[
        float, typer.Option(min=0.0, help="GiB that it will write; with --plan, beside its checkpoints.")
    ] = 1.0,
    plan: Annotated[str | None, typer.Option(help="What a run takes: NAME=NUMBER,… of doctor/plan.py.")] = None,
    runtime_env: Annotated[
        str, typer.Option(help="Runtime environment of the job that is sent to look around (JSON).")
    ] = "{}",
    shared: Annotated[
        list[Path] | None, typer.Option(help="A folder that each of Ray's nodes must have; repeatable.")
    ] = None,
    job_key: Annotated[
        list[str] | None, typer.Option(help="A key that the job's environment must hold; repeatable.")
    ] = None,
    router_policy: Annotated[str | None, typer.Option(help="A policy that the installed router must know.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what is not ok.")] = False,
) -> None:
    """Look at this machine, and at the models and servers that are named, by options or as TAU2_USER_*; exit code 1
    where something is missing.
    """
    from slime_tau2.doctor.plan import Plan
    from slime_tau2.doctor.run import Question
    from slime_tau2.doctor.run import main as run

    named = {"user_base_url": user, "user_model": user_model, "user_key_env": user_key}
    given = {key: value for key, value in named.items() if value is not None}
    # no plugin is imported: what a plugin needs is what the doctor is asked about
    config = Tau2Config.read((ENVIRONMENT, from_environment()), ("--user, --user-model, --user-key", given))
    question = Question(
        gpus=gpus,
        train=train,
        serve=serve,
        models=tuple(model or ()),
        rotary_base=rotary_base,
        policy=policy,
        user=config.user_base_url if "user_base_url" in config.model_fields_set else None,
        user_model=config.user_model,
        user_key=config.user_key_env,
        ray=ray,
        ports=tuple(port or ()),
        output=output,
        disk_gib=disk,
        plan=None if plan is None else Plan.parse(plan),
        runtime_env=runtime_env,
        shared=tuple(shared or ()),
        job_keys=tuple(job_key or ()),
        router_policy=router_policy,
    )
    raise typer.Exit(run(question, console, as_json=as_json, quiet=quiet))


COMMANDS: dict[str, Callable[..., None]] = {
    "prepare-data": cli_data.prepare_data,
    "tasks": cli_data.tasks,
    "collect": cli_collect.collect,
    "import-sft": cli_data.import_sft,
    "import-tasks": cli_tasks.import_tasks,
    "make-tasks": cli_tasks.make_tasks,
    "verify-tasks": cli_tasks.verify_tasks,
    "rft": cli_data.rft,
    "check-sft": cli_data.check_sft,
    "eval": cli_evaluation.evaluate,
    "compare": cli_evaluation.compare,
    "plan": cli_evaluation.plan,
    "select": cli_evaluation.select,
    "report": cli_evaluation.report,
    "rollouts": cli_rollouts.rollouts,
    "export-tau2": cli_evaluation.export_tau2,
    "import-tau2": cli_evaluation.import_tau2,
    "card": cli_evaluation.card,
    "options": cli_options.options,
    "serve": serve,
    "quickstart": quickstart,
    "study": study,
    "export-hf": export_hf,
    "doctor": doctor,
}
"""Every command, in the order in which `--help` lists them."""
WITHOUT_DOMAINS = ("prepare-data", "options", "rollouts", "serve", "export-hf", "doctor")
"""Commands that know no domains and must work where a plugin cannot be imported: before tau2 is there, say."""


def _with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """The command, after the import of the plugins that TAU2_PLUGINS names."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        plugins.import_all(from_environment().get("plugins", ()))
        command(*arguments, **options)

    return run


for name, command in COMMANDS.items():
    app.command(name)(command if name in WITHOUT_DOMAINS else _with_plugins(command))

INTERRUPTED = 130  # a shell's exit code for Ctrl-C, which typer raises by itself too
_UsageError: Any = typer.BadParameter.__mro__[1]  # typer carries its own click and exports only the subclass


def main() -> None:
    """Entry point: one line for the user's errors, exit code 2; 130 after Ctrl-C."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        code = app(standalone_mode=False)  # else typer would print and exit for us
    except (UserError, InfrastructureError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        if error.filename is None and not full:
            raise
        where = f" ({error.filename})" if error.filename else ""
        fix = "; make room and run the same command: what was saved before is intact" if full else ""
        print(f"error: {error.strerror or error}{where}{fix}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as ended:
        code = ended.code
    except _UsageError as error:
        error.show()
        code = error.exit_code
    if code == INTERRUPTED:
        print("\ninterrupted; the same command resumes", file=sys.stderr)
    raise SystemExit(code or 0)


if __name__ == "__main__":
    main()
