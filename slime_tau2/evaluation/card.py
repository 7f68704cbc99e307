"""`slime-tau2 card`: a Hugging Face model card from the records of evaluations, and from nothing else.

The front matter's `model-index` is built and read back with `huggingface_hub`. Every number stands beside the file that it was computed
from; what the runs do not say, the card leaves to its author.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import compare, statistics
from slime_tau2.evaluation.tables import cell

SHOWN = (
    "domain", "split", "tau2", "tasks_sha256", "retail_basis", "user", "user_model", "user_temperature", "temperature", "top_p", "top_k",
    "max_steps",
)  # fmt: skip


def write(directories: Sequence[Path], output: Path, name: str, base_model: str | None, license_name: str, console: Console) -> None:
    """Write the card.

    Raises:
        ConfigError: no run, or the output exists.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    runs = [compare.load(d) for d in directories]
    results, rows, settings = [], [], []
    for directory, run in zip(directories, runs):
        n = min(len(s) for s in run.successes.values())
        ks = sorted({1, n})
        found = statistics.summarise(run.successes, ks)
        metrics = [f"pass@{k}" for k in ks] + ([f"pass^{n}"] if n > 1 else [])
        where = f"{run.settings['domain']} ({run.settings['split']})"
        for metric in metrics:
            results.append(
                EvalResult(
                    task_type="text-generation", task_name="Tool use over many turns", dataset_type="tau2-bench",
                    dataset_name=f"tau2-bench {where}", dataset_split=run.settings["split"], dataset_revision=run.settings["tasks_sha256"],
                    metric_type=metric, metric_name=f"{metric} over {found[metric].tasks} tasks, {n} attempts each",
                    metric_value=round(found[metric].value, 4),
                )
            )  # fmt: skip
            size, source = f"{found[metric].tasks} × {n}", directory / "attempts.jsonl"
            rows.append(f"| {where} | {metric} | {cell(found[metric])} | {size} | {run.excluded} | `{source}` |")
        told = "; ".join(f"{k} {run.settings[k]}" for k in SHOWN if run.settings.get(k) is not None)
        settings.append(f"* `{directory}`: {told}")
    data = ModelCardData(
        model_name=name, base_model=base_model, license=license_name, library_name="transformers", pipeline_tag="text-generation",
        tags=["tau2-bench", "tool-use", "slime"], eval_results=results,
    )  # fmt: skip
    body = "\n".join(
        [
            f"# {name}", "", "Trained and evaluated with slime_tau2.", "", "## Scores", "",
            "In per cent, with 95 % bootstrap intervals over tasks; pass@k: any of k attempts succeeds, pass^k: all do, both unbiased.", "",
            "| tasks | metric | value | tasks × attempts | left out (infrastructure) | computed from |", "|---|---|---|---|---|---|",
            *rows, "", "## Settings", "", *settings, "",
        ]
    )  # fmt: skip
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")
    read = getattr(ModelCard(str(card)).data, "eval_results", None) or []
    if len(read) != len(results):
        raise ConfigError(f"huggingface_hub reads {len(read)} of {len(results)} results back from the card; two runs of the same name?")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(str(card), encoding="utf-8")
    console.print(f"{len(results)} results of {len(runs)} runs: {output}", soft_wrap=True)
