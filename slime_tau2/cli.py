"""The command line: `slime-tau2 …`. Parses, calls, prints; every error of the user's is one line with its fix."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from slime_tau2 import cli_data
from slime_tau2.errors import InfrastructureError, UserError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Train and evaluate tool-using agents on tau2-bench."
)
console = Console()


for name, command in cli_data.COMMANDS.items():
    app.command(name)(command)


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="Directory of a Hugging Face model.")],
    host: str = "127.0.0.1",
    port: int = 30000,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda when there is one.")] = None,
    with_parent: Annotated[int | None, typer.Option("--with-parent", hidden=True)] = None,
) -> None:
    """Serve a small model with SGLang's /generate protocol."""
    from slime_tau2.local.server import serve as run

    run(model, host, port, device, threads, with_parent)


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="Where everything goes; the same command resumes an interrupted run.")] = Path(
        "outputs/quickstart"
    ),
    smoke: Annotated[bool, typer.Option("--smoke", help="A run of about a minute that learns nothing.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of a pipeline setting; repeatable.")] = None,
) -> None:
    """SFT → RFT → GRPO → evaluation → Hugging Face model on the bundled domain."""
    from slime_tau2.evaluation.quickstart import main as run

    run(output, smoke, set_ or [], console)


@app.command()
def study(
    output: Annotated[Path, typer.Option(help="Where everything goes; the same command resumes an interrupted study.")] = Path(
        "outputs/study"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Whole pipelines, each with its own seed.")] = 3,
    variant: Annotated[list[str] | None, typer.Option(help="Only this variant of GRPO; repeatable. By default all.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few minutes that learn nothing.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of a pipeline setting; repeatable.")] = None,
) -> None:
    """Train over seeds, variants of GRPO and controls on the bundled domain, and say which differences are real."""
    from slime_tau2.evaluation.study import main as run

    run(output, seeds, variant, smoke, set_ or [], console)


@app.command("eval")
def evaluate(
    output: Annotated[Path, typer.Option(help="Directory of the results; the same command resumes.")],
    domain: str = "helpdesk",
    split: Annotated[str | None, typer.Option(help="By default test.")] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="gold, noop, transfer-only, empty-arguments, a model directory, an SGLang URL, or an OpenAI-compatible one (…/v1)."
        ),
    ] = "gold",
    model: Annotated[str | None, typer.Option(help="Model of an OpenAI-compatible server.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="card (the model card's settings) or leaderboard (tau2's); options win over it.")
    ] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts at each task, by default 1.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task id; repeatable.")] = None,
    user: Annotated[str | None, typer.Option(help="scripted, llm, gold or plain; by default what suits the policy.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="By default 1.0.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="By default 1.0.")] = None,
    top_k: Annotated[int | None, typer.Option(help="By default -1: all tokens.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer directory; needed with an SGLang server's URL.")] = None,
    concurrency: Annotated[int, typer.Option(min=1)] = 64,
    seed: int = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and an estimate of tokens, and stop.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of a tau2 option, e.g. max_turn_tokens=64; repeatable.")
    ] = None,
) -> None:
    """Evaluate a policy: attempts.jsonl and summary.json."""
    from slime_tau2.evaluation.evaluate import main as run
    from slime_tau2.evaluation.presets import EvalRequest

    request = EvalRequest(
        output, domain, policy, split, attempts, task, user, temperature, top_p, top_k, tokenizer, concurrency, seed, tuple(set_ or ()),
        model, preset,
    )  # fmt: skip
    run(request, console, dry_run)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Directories of `slime-tau2 eval`; the first is the baseline.")],
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare runs of other tasks, users or reward bases too, and say so.")] = False,
) -> None:
    """Compare runs on the same tasks: pass@k, pass^k, paired differences with intervals, an exact sign test."""
    from slime_tau2.evaluation.compare import main as run

    run(runs, anyway, console)


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(help="A quickstart run, a study, or runs of `slime-tau2 eval` side by side.")],
    output: Annotated[Path | None, typer.Option(help="The page; by default report.html in the first directory.")] = None,
) -> None:
    """Print tables and what went wrong, and write one page with plots and every conversation (of a quickstart report.json, too)."""
    if (directories[0] / "study.json").exists():
        from slime_tau2.evaluation.study import write_report as write_study

        write_study(directories[0], console)
        return
    if (directories[0] / "settings.json").exists() and not (directories[0] / "attempts.jsonl").exists():
        from slime_tau2.evaluation.quickstart import write_report

        write_report(directories[0], console)
        return
    from slime_tau2.evaluation.evaluate import report as run

    run(directories, output, console)


@app.command("export-tau2")
def export_tau2(
    run: Annotated[Path, typer.Argument(help="Directory of `slime-tau2 eval`.")],
    output: Annotated[Path, typer.Option(help="tau2's results.json; must not exist.")],
) -> None:
    """Write a run as tau2's own results file, for its viewer, its metrics and its leaderboard."""
    from slime_tau2.evaluation.tau2_results import export_run

    written, left_out = export_run(run, output)
    print(f"{written} simulations written to {output}; {left_out} attempts that infrastructure ended are left out")


@app.command("import-tau2")
def import_tau2(
    results: Annotated[Path, typer.Argument(help="A results.json of tau2.")],
    output: Annotated[Path, typer.Option(help="Directory, as of `slime-tau2 eval`; must not exist.")],
) -> None:
    """Read tau2's results, published ones too, so that report and compare treat them as any other run."""
    from slime_tau2.evaluation.tau2_results import import_results

    print(f"{import_results(results, output)} attempts written to {output}; slime-tau2 report {output} shows them")


@app.command()
def card(
    runs: Annotated[list[Path], typer.Argument(help="Directories of `slime-tau2 eval`.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    output: Annotated[Path, typer.Option(help="The card, e.g. README.md beside the weights; must not exist.")],
    base_model: Annotated[str | None, typer.Option(help="Repository that training started from.")] = None,
    license_name: Annotated[str, typer.Option("--license")] = "apache-2.0",
) -> None:
    """Write a Hugging Face model card whose every number comes from a run's own records."""
    from slime_tau2.evaluation.card import write

    write(runs, output, name, base_model, license_name, console)


@app.command("export-hf")
def export_hf(
    checkpoint: Annotated[Path, typer.Argument(help="torch_dist checkpoint of Megatron: iter_0000100, or the folder above it.")],
    hf_config: Annotated[Path, typer.Option(help="Hugging Face directory that training started from: config, tokenizer.")],
    output: Annotated[Path, typer.Option(help="Directory of the Hugging Face model; must not exist, or be empty.")],
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32; by default the checkpoint's.")] = None,
    shard_gib: Annotated[float, typer.Option(min=0.001, help="Most weights in a file, in GiB.")] = 2.0,
) -> None:
    """Convert a Megatron checkpoint to a Hugging Face model, without a GPU and in little memory."""
    import time

    from slime_tau2.checkpoints.export import export

    started = time.perf_counter()
    done = export(checkpoint, hf_config, output, dtype, int(shard_gib * 2**30))
    seconds = time.perf_counter() - started
    print(f"{done.tensors} tensors, {done.size / 2**30:.2f} GiB in {done.shards} files, {done.size / seconds / 1e6:.0f} MB/s: {output}")


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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{where}; make room and run the same command: what was saved before is intact", file=sys.stderr)
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
