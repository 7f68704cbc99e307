"""Every command in the pages is run: here, as it is written, or by the test that is named. What cannot be is marked
where it stands.

Paths that the pages name (`outputs/base`, `published.parquet`, `Qwen3-4B`) are small stand-ins; api.openai.com is a
fake server.
"""

import ast
import asyncio
import importlib.util
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import in_process
import pytest
from checkpoint_files import write_checkpoint
from documented import NAMES, PAGES, ROOT, commands
from fake_openai import FakeOpenAI
from launch_commands import fake_slime, launch
from rollout_dumps import rollout_part
from serving import Serving

from slime_tau2.data import traces
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.dumps.store import FOLDER, Dump
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser

HERE, DRY, MARKED = "here", "as a dry run, and marked", "marked"
OPENAI = "https://api.openai.com/v1"
RULES: list[tuple[str, str, tuple[str, ...]]] = [
    # a pattern of the whole command, how it is tested, what is added to make it short
    (r"bash launch/quickstart\.sh", "tests/experiments/test_pipeline.py::test_it_runs_end_to_end_and_reports", ()),
    (r"slime-tau2 quickstart --set .*", "tests/experiments/test_pipeline.py::test_it_runs_end_to_end_and_reports", ()),
    (
        r"slime-tau2 study .*",
        "tests/experiments/test_study.py::test_a_part_of_a_study_runs_resumes_and_refuses_another",
        (),
    ),
    (
        r"slime-tau2 report docs/study(_again)?",
        "tests/experiments/test_published_study.py::test_the_command_writes_the_published_report_and_prints_it",
        (),
    ),
    (r"bash launch/test\.sh.*", ".ci/run", ()),
    (r"slime-tau2 eval .*--set plugins=\[lockers\].*", "tests/test_extending.py::test_the_pages_commands", ()),
    (
        r"slime-tau2 eval .*--policy http://127\.0\.0\.1:.*",
        "tests/episode/test_vllm.py::test_an_evaluation_by_tokens",
        (),
    ),
    (
        r"slime-tau2 eval --preset card.*",
        "tests/evaluation/test_presets.py::test_a_dry_run_says_what_it_would_do_and_does_nothing",
        (),
    ),
    (
        r"slime-tau2 plan --study (docs/study|DIR) .*",
        "tests/experiments/test_study_plan.py::test_the_cookbooks_plan_is_what_the_command_prints",
        (),
    ),
    (
        r"slime-tau2 (study .* --only start|eval .*/seed_\d/start/sft/model .*)",
        "tests/experiments/test_study.py::test_a_part_of_a_study_runs_resumes_and_refuses_another",
        (),
    ),
    (r"slime-tau2 doctor --user .*", "tests/test_doctor.py::test_the_exit_code_and_json_are_for_scripts", ()),
    (
        r"slime-tau2 doctor --policy .* --model .*",
        "tests/test_doctor.py::test_the_policys_tokenizer_is_compared_with_the_models",
        (),
    ),
    (r"slime-tau2 doctor --model MODEL .*", "tests/test_doctor.py::test_a_models_files", ()),
    (
        r"slime-tau2 eval --domain banking_knowledge .*",
        "tests/upstream/test_knowledge_v1.py::test_gold_wins_every_task_and_the_kind_is_recorded",
        (),
    ),
    (
        r"slime-tau2 import-tasks .* --format areal .*",
        "tests/data/test_task_import.py::test_areal_becomes_a_set_for_each_domain",
        (),
    ),
    (
        r"slime-tau2 import-tasks .* --format tau2 .*",
        "tests/data/test_task_import.py::test_tau2s_own_files_become_a_set",
        (),
    ),
    (r"slime-tau2 import-sft .* --format areal .*", "tests/data/test_areal_sft.py::test_the_command", ()),
    (
        r"slime-tau2 eval --domain \S*\./sets/.*",
        "tests/tasksets/test_thread.py::test_it_is_evaluated_beside_a_domain",
        (),
    ),
    (r"slime-tau2 make-tasks .*", "tests/factory/test_sets.py::test_a_set_is_made_and_verified", ()),
    (
        r"slime-tau2 verify-tasks (\./sets/.*|DOMAIN .*)",
        "tests/verification/test_commands.py::test_a_good_set_is_verified_and_trains",
        (),
    ),
    (
        r"slime-tau2 (collect --policy expert .*|report outputs/expert\.attempts)",
        "tests/factory/test_expert.py::test_collect_resumes_and_is_one_run_over_several_domains",
        (),
    ),
    (
        r"slime-tau2 rollouts .* --live",
        "tests/rollouts/test_rollouts.py::test_the_live_page_follows_the_training",
        (),
    ),
    (r"slime-tau2 collect .*", HERE, ("--set", f"user_base_url={OPENAI}")),
    (
        r"slime-tau2 eval --domain helpdesk --policy outputs/.*",
        HERE,
        ("--task", "orders_250", "--set", "max_turn_tokens=8"),
    ),
    (r"slime-tau2 .*", HERE, ()),
    (r"bash launch/\w+\.sh.*", DRY, ()),
    (r"python3 train(_async)?\.py .*|ray start .*|export WANDB_PROJECT=.*", MARKED, ()),
    (
        r"python tests/bench/\w+\.py.*|python -m pytest -m upstream .*|export \w+=.*|git clone .*|pip(-audit)? .*|tau2 .*",
        MARKED,
        (),
    ),
]


def rule(command):
    """(how, what is added), by the first pattern that fits; how is empty where none does."""
    return next(((how, added) for pattern, how, added in RULES if re.fullmatch(pattern, command.text)), ("", ()))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_is_tested_or_marked(page):
    for command in commands(page):
        how, _ = rule(command)
        assert how, f"{page.name}: {command.text}: say in RULES how it is tested"
        if how in (DRY, MARKED):
            assert command.marks or "--dry-run" in command.words, (
                f"{page.name}: {command.text}: say what it needs beside it"
            )
        elif how != HERE:
            path, _, name = how.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists(), how


def answer(body):
    """Of agent and user alike: the agent refuses, the user asks and then stops, so that refusals earn what doing
    nothing earns.
    """
    said = [m["role"] for m in body["messages"]]
    if "customer service agent" in body["messages"][0]["content"]:
        return "I cannot help you with that."
    return "Thanks. ###STOP###" if said.count("assistant") > 0 else "Hello, I need help."


@pytest.fixture(scope="session")
def workspace(tmp_path_factory, tiny_model, tiny_model_dir, tokenizer):
    """What the pages take as given, in a folder of its own."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    place = tmp_path_factory.mktemp("workspace")
    checkpoint, hf = write_checkpoint(tmp_path_factory.mktemp("trained"), tiny_model, tokenizer)
    shutil.copytree(checkpoint / "iter_0000007", place / "checkpoints" / "iter_0000100")
    shutil.copytree(hf, place / "Qwen3-4B")
    shutil.copytree(tiny_model_dir, place / "outputs" / "grpo" / "hf")
    shutil.copytree(tiny_model_dir, place / "outputs" / "quickstart" / "grpo" / "model")
    Dump(place / "outputs" / "quickstart" / "grpo" / FOLDER).write_rollout(rollout_part(0))
    talk = [{"role": "user", "content": "My order, please."}, {"role": "assistant", "content": "It is on its way."}]
    rows = [{"messages": talk, "metadata": json.dumps({"domain": "retail", "task_id": "1"})}]
    for name in ("published", "tau2-sft-seed-v3", "a-published-set"):
        parquet.write_table(pa.Table.from_pylist(rows), place / f"{name}.parquet")
    evaluated(place)
    return place


def evaluated(place):
    """Runs that pages begin with."""

    def play(output, *options):
        assert in_process.run("eval", *options, "--output", place / "outputs" / output) == 0

    play("base", "--policy", "noop", "--attempts", 2)  # a plan needs two
    play("grpo", "--policy", "gold")
    play("train", "--split", "train", "--task", "orders_3")
    agent = CallableAgent(Teacher(0).act)  # gold's words are no training data
    taught = asyncio.run(run_episode(worlds.load("helpdesk"), "orders_3", agent, DomainUser(), seed=0))
    traces.write_jsonl(place / "outputs" / "train" / "attempts.jsonl", [{"attempt": 0, **taught.record()}])
    for checkpoint in ("val_49", "val_99"):
        play(f"grpo/{checkpoint}", "--domain", "airline", "--split", "val", "--policy", "noop")
    play("grpo/eval", "--domain", "airline,retail,telecom", "--policy", "noop")
    for domain in ("airline", "retail", "telecom"):
        play(domain, "--domain", domain, "--policy", "noop")


@pytest.mark.parametrize("page", [p for p in PAGES if any(rule(c)[0] == HERE for c in commands(p))], ids=NAMES)
def test_the_pages_commands_run(page, workspace, cli, monkeypatch, tmp_path):
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    with Serving(FakeOpenAI(answer)) as fake:
        for command in commands(page):
            how, added = rule(command)
            if how != HERE:
                continue
            words = [w.replace(OPENAI, fake.url) for w in (*command.words[1:], *added)]
            files = [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.glob("outputs/*/attempts.jsonl"))]
            words = [x for w in words for x in (files if w == "outputs/*/attempts.jsonl" else [w])]  # the shell's part
            code, out, err = cli(*words)
            assert code == 0, f"{page.name}: {command.text}\n{out[-1500:]}\n{err}"
            if "--output" in words and "--dry-run" not in words:
                assert (tmp_path / words[words.index("--output") + 1]).exists(), command.text
    if page.name == "README.md":
        (row,) = traces.read_rows(tmp_path / "rft.jsonl")
        assert row["metadata"]["task_id"] == "orders_3", "test tasks never qualify, nor do scripts"


@pytest.mark.parametrize("page", [p for p in PAGES if any(rule(c)[0] == DRY for c in commands(p))], ids=NAMES)
def test_the_pages_scripts_run_dry(page, tmp_path):
    slime = {
        "SLIME_DIR": str(fake_slime(tmp_path / "slime")),
        "OUTPUT_DIR": str(tmp_path / "out"),
        "DATA_DIR": str(tmp_path / "data"),
    }
    for command in commands(page):
        if rule(command)[0] == DRY:
            script = command.words[1].removeprefix("launch/").removesuffix(".sh")
            options = [w for w in command.words[2:] if w != "--dry-run"]
            done = launch(script, *options, "--dry-run", **slime)
            assert done.returncode == 0 and done.stdout, f"{page.name}: {command.text}\n{done.stderr}"


OUTPUTS = {"sft": "checkpoints", "rft": "checkpoints", "grpo": "checkpoints", "export_hf": "hf"}


def recipe(page):
    """(script, arguments, variables) of each launch script in a page's block that goes through all stages."""
    block = next(
        b for b in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) if "rft.sh train" in b
    )
    for line in block.replace("\\\n", " ").splitlines():
        for part in line.partition("#")[0].split("&&"):
            words = shlex.split(part)
            given = dict(w.split("=", 1) for w in itertools.takewhile(lambda w: re.match(r"[A-Z_]+=", w), words))
            words = words[len(given) :]
            if words[:1] == ["bash"] and words[1].startswith("launch/"):
                yield Path(words[1]).stem, words[2:], given


@pytest.mark.parametrize("page", ["docs/cookbook.md", "docs/training.md"])
def test_each_line_of_a_recipe_takes_what_a_line_before_it_made(page, tmp_path):
    """Dry runs of the whole recipe, in order: every folder that a line reads must have been written by an earlier one."""
    slime, made, seen = {"SLIME_DIR": str(fake_slime(tmp_path / "slime"))}, set(), []
    for script, arguments, given in recipe(ROOT / page):
        for name in ("INIT_DIR", "MODEL", "CHECKPOINT"):
            assert given.get(name) is None or given[name] in made, (
                f"{page}: {script} reads {given[name]}, and no line before made it"
            )
        if script == "export_hf":
            assert f"{given.get('OUTPUT_DIR', 'outputs/grpo')}/checkpoints" in made, f"{page}: nothing to export"
        done = launch(script, *arguments, "--dry-run", cwd=tmp_path, **slime, **given)
        assert done.returncode == 0 and done.stdout, f"{page}: {script} {arguments}\n{done.stderr}"
        stage = Path(given.get("OUTPUT_DIR", f"outputs/{script if script in ('sft', 'rft') else 'grpo'}"))
        if script in OUTPUTS and arguments[:1] != ["sample"]:
            made.add(str(stage / OUTPUTS[script]))
        seen.append((script, done.stdout))
    order = [s for s, _ in seen if s not in ("setup", "prepare", "serve_policy", "serve_user_sim")]
    assert order == ["sft", "export_hf", "rft", "rft", "grpo", "export_hf", "evaluate"]
    if page == "docs/cookbook.md":
        evaluation = seen[-1][1]
        for part in ("0.8", "gpt-4.1-mini", "protocol=card", "max_steps=100", "https://api.openai.com/v1"):
            assert part in evaluation, "the card's conditions"


@pytest.mark.parametrize("script", sorted((ROOT / "tests" / "bench").glob("*.py")), ids=lambda p: p.stem)
def test_what_the_benchmarks_import_is_there(script):
    """They are run by hand: nothing may move away under them unseen."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slime_tau2"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), (
                    f"{node.module}.{name.name}"
                )
