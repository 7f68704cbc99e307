"""Every command that reads files, with each of twelve kinds of broken file: one line that names it, exit code 2, and
nothing written.

`python tests/test_broken_files.py` prints the table.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import run_files
import study_files
import task_set_files
from broken_kinds import KINDS
from checkpoint_files import write_checkpoint

from slime_tau2.bench.tasks import domain_dir
from slime_tau2.data import traces
from slime_tau2.local.process import free_port

TEXT = {"absent", "empty", "a folder", "UTF-16", "Latin-1", "binary", "truncated"}
"""The kinds that exist for a file that is not JSON."""

RUN = [
    ("report", lambda d: ["report", d / "run"]),
    ("compare", lambda d: ["compare", d / "other", d / "run"]),
    ("card", lambda d: ["card", d / "run", "--name", "m", "--output", d / "out"]),
    ("export-tau2", lambda d: ["export-tau2", d / "run", "--output", d / "out"]),
    ("select", lambda d: ["select", d / "other", d / "run", "--i-know"]),
    ("eval", lambda d: ["eval", "--domain", "airline", "--policy", "noop", "--output", d / "run"]),
    (
        "eval --dry-run --like",
        lambda d: ["eval", "--domain", "airline", "--dry-run", "--like", d / "run", "--output", d / "out"],
    ),
]
CASES = [(name, f"run/{file}", argv) for name, argv in RUN for file in ("plan.json", "attempts.jsonl")]
CASES += [
    ("card", "run/baselines.json", RUN[2][1]),
    ("report --prices", "prices.json", lambda d: ["report", d / "run", "--prices", d / "prices.json"]),
    (
        "eval --set agent_prompt",
        "prompt.txt",
        lambda d: ["eval", "--set", f"agent_prompt={d / 'prompt.txt'}", "--output", d / "out"],
    ),
    ("import-tau2", "results.json", lambda d: ["import-tau2", d / "results.json", "--output", d / "out"]),
    ("rft", "run/attempts.jsonl", lambda d: ["rft", d / "run" / "attempts.jsonl", "--output", d / "out"]),
    ("import-sft", "rows.jsonl", lambda d: ["import-sft", d / "rows.jsonl", "--output", d / "out"]),
    (
        "check-sft",
        "rows.jsonl",
        lambda d: ["check-sft", d / "rows.jsonl", "--tokenizer", d / "model", "--output", d / "out"],
    ),
    (
        "check-sft --tokenizer",
        "model/tokenizer.json",
        lambda d: ["check-sft", d / "rows.jsonl", "--tokenizer", d / "model", "--output", d / "out"],
    ),
    ("serve", "model/config.json", lambda d: ["serve", d / "model", "--port", free_port()]),
    ("serve", "model/model.safetensors", lambda d: ["serve", d / "model", "--port", free_port()]),
    (
        "export-hf",
        "hf/config.json",
        lambda d: ["export-hf", d / "checkpoint", "--hf-config", d / "hf", "--output", d / "out"],
    ),
    (
        "export-hf",
        "checkpoint/iter_0000007/.metadata",
        lambda d: ["export-hf", d / "checkpoint", "--hf-config", d / "hf", "--output", d / "out"],
    ),
    (
        "export-hf",
        "checkpoint/iter_0000007/common.pt",
        lambda d: ["export-hf", d / "checkpoint", "--hf-config", d / "hf", "--output", d / "out"],
    ),
    ("report (quickstart)", "quick/settings.json", lambda d: ["report", d / "quick"]),
    ("report (quickstart)", "quick/usage.json", lambda d: ["report", d / "quick"]),
    ("report (quickstart)", "quick/metrics.jsonl", lambda d: ["report", d / "quick"]),
    ("report (quickstart)", "quick/eval/grpo/plan.json", lambda d: ["report", d / "quick"]),
    ("report (study)", "study/study.json", lambda d: ["report", d / "study"]),
    ("quickstart", "quick/settings.json", lambda d: ["quickstart", "--smoke", "--output", d / "quick"]),
]

SETS = [
    (
        "eval a set",
        ["manifest.json", "tasks.jsonl", "databases/own.json", "verified.jsonl"],
        lambda d: ["eval", "--domain", d / "set", "--output", d / "out"],
    ),
    (
        "import-tasks areal",
        ["tau2_rl_train.jsonl", "db.json"],
        lambda d: ["import-tasks", d / "areal", "--format", "areal", "--output", d / "out"],
    ),
    (
        "import-tasks tau2",
        ["tasks.json", "db.json", "split_tasks.json"],
        lambda d: ["import-tasks", d / "tau2", "--format", "tau2", "--output", d / "out"],
    ),
    (
        "import-sft areal",
        ["turns.jsonl"],
        lambda d: ["import-sft", d / "turns" / "turns.jsonl", "--format", "areal", "--output", d / "out"],
    ),
]
FOLDERS = {"eval a set": "set", "import-tasks areal": "areal", "import-tasks tau2": "tau2", "import-sft areal": "turns"}
CASES += [(name, f"{FOLDERS[name]}/{file}", argv) for name, names, argv in SETS for file in names]

MEANT = {
    "card run/baselines.json": {"absent", "older"},  # a run of another machine need not have them
    "export-hf checkpoint/iter_0000007/common.pt": {"absent"},  # nor a checkpoint the trainer's arguments
    "quickstart quick/settings.json": {"absent"},  # that is a new run
    "report (quickstart) quick/metrics.jsonl": {"absent", "empty"},  # no training curves
    "eval run/attempts.jsonl": {"absent", "empty"},  # nothing has been run yet
    "report --prices prices.json": {"older"},  # nothing costs anything there
    "import-tasks tau2 tau2/db.json": {"absent"},  # then it is the domain's own
    "import-tasks tau2 tau2/split_tasks.json": {"absent", "older"},  # then all of them train; fewer splits
    "eval --set agent_prompt prompt.txt": {"empty", "truncated"},  # a prompt is any text
}
"""What is no fault."""
EXAMPLE = {"report", "compare", "eval", "eval --dry-run --like"}
"""What may read a run whose last line was cut off: the first two say that it is partial, the others run what is
missing.
"""


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_model, tokenizer, tiny_model_dir):
    """A folder with one good example of everything."""
    from typer.testing import CliRunner

    from slime_tau2.cli import app
    from slime_tau2.experiments.settings import PipelineSettings

    d = tmp_path_factory.mktemp("whole")

    def command(*words):
        done = CliRunner().invoke(app, [str(w) for w in words])
        assert done.exit_code == 0, done.output

    for name in ("run", "other"):
        command("eval", "--domain", "airline", "--policy", "noop", "--output", d / name)
    command("export-tau2", d / "run", "--output", d / "results.json")
    (d / "prices.json").write_text(json.dumps({"m": {"prompt": 1.0, "completion": 2.0}}))
    (d / "prompt.txt").write_text("You help. {policy}\n")
    talk = [{"role": "user", "content": "My order, please."}, {"role": "assistant", "content": "It is on its way."}]
    traces.write_jsonl(
        d / "rows.jsonl",
        [
            {"messages": talk, "tools": "[]", "metadata": {"domain": "helpdesk", "task_id": f"orders_{n}"}}
            for n in (0, 3)
        ],
    )
    write_sets(d)
    shutil.copytree(tiny_model_dir, d / "model")
    write_checkpoint(d, tiny_model, tokenizer)
    for stage in ("base", "sft", "rft", "grpo"):
        run_files.write(d / "quick" / "eval" / stage, {"helpdesk": {"orders_250": [1.0, 0.0]}})
        (d / "quick" / "eval" / stage / "summary.json").write_text("{}")
    (d / "quick" / "settings.json").write_text(PipelineSettings().model_dump_json())
    (d / "quick" / "usage.json").write_text(
        '{"wall_s": 1.0, "mismatches": 0, "audited": 1, "peak_rss_mib": 1, "lags": null}'
    )
    (d / "quick" / "metrics.jsonl").write_text('{"stage": "sft", "step": 1, "loss": 1.0}\n')
    study_files.settings().write(d / "study")
    return d


def write_sets(d):
    """A task set, and what sets and rows are imported from."""
    own = {name: domain_dir("retail") / f"{name}.json" for name in ("tasks", "db", "split_tasks")}
    task_set_files.write(d / "set", databases={"own": own["db"]})
    (d / "tau2").mkdir()
    for path in own.values():
        shutil.copy(path, d / "tau2")
    (d / "tau2" / "tasks.json").write_text(f'{{"tasks": {own["tasks"].read_text()}}}')
    (d / "areal").mkdir()
    shutil.copy(own["db"], d / "areal")
    rows = [task | {"id": f"retail_{n}", "db_path": "db.json"} for n, task in enumerate(task_set_files.tasks())]
    traces.write_jsonl(d / "areal" / "tau2_rl_train.jsonl", rows)
    (d / "turns").mkdir()
    context = [{"role": "system", "content": "Policy."}, {"role": "user", "content": "My order, please."}]
    answer = {"role": "assistant", "content": "Which?", "thinking": "", "tool_calls": None}
    metadata = [{"source_dialog_id": f"retail_dialog_{n}", "turn_index": 0, "correct": 1} for n in (0, 1)]
    traces.write_jsonl(
        d / "turns" / "turns.jsonl", [{"messages": context, "answer": answer, "metadata": m} for m in metadata]
    )


def kinds(file):
    return [k for k in KINDS if file.endswith((".json", ".jsonl")) or k in TEXT]


@pytest.mark.parametrize("name, file, argv", CASES, ids=[f"{n} {f}" for n, f, _ in CASES])
def test_every_broken_file_is_one_line_and_leaves_nothing(whole, cli, monkeypatch, tmp_path, name, file, argv):
    from slime_tau2.local import server

    monkeypatch.setattr(server.web, "run_app", lambda *_, **__: None)  # a server that starts is a failure here
    faults = []
    for kind in kinds(file):
        if kind in MEANT.get(f"{name} {file}", ()):
            continue
        d = tmp_path / kind.replace(" ", "_")
        shutil.copytree(whole, d)
        KINDS[kind](d / file)
        before = files_of(d)
        try:
            code, out, error = cli(*argv(d))
        except Exception as bug:  # a traceback
            faults.append(f"{kind}: {type(bug).__name__}: {bug}")
            continue
        torn = kind == "truncated" and file.endswith("attempts.jsonl") and name in EXAMPLE
        if torn:
            if "PARTIAL" not in out and "not run" not in out and name in ("report", "compare"):
                faults.append(f"{kind}: it does not say that it is partial")
        elif code != 2 or not error.startswith("error: ") or error.count("\n") != 1:
            faults.append(f"{kind}: exit {code}, {error!r}")
        elif files_of(d) != before:
            faults.append(f"{kind}: wrote {sorted(set(files_of(d)) ^ set(before))}")
        shutil.rmtree(d)
    assert not faults, "\n".join(faults)


def files_of(directory):
    """{file: size}, without the lock."""
    return {
        str(p.relative_to(directory)): p.stat().st_size
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def test_the_good_examples_are_good(whole, cli, tmp_path):
    """Else the test above would pass for another reason."""
    shutil.copytree(whole, tmp_path / "d")
    for name, file, argv in CASES:
        if (
            name in ("serve", "quickstart", "report (study)", "report --prices")
            or name == "rft"
            or "like" in name
            or "agent_prompt" in name
        ):
            continue  # they serve, train, or have nothing to show; the file is read before that
        shutil.rmtree(tmp_path / "d" / "out", ignore_errors=True)
        (tmp_path / "d" / "out").unlink(missing_ok=True)
        code, _, error = cli(*argv(tmp_path / "d"))
        assert code == 0, f"{name} {file}: {error}"


if __name__ == "__main__":
    print("| command | file | kinds of broken file |\n|---|---|---|")
    for name, file, _ in CASES:
        skipped = MEANT.get(f"{name} {file}", set())
        print(f"| `{name}` | `{Path(file).name}` | {len(kinds(file)) - len(skipped)} |")
    print(sum(len(kinds(f)) - len(MEANT.get(f"{n} {f}", ())) for n, f, _ in CASES), "in all", file=sys.stderr)
