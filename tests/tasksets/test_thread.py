"""A task set from end to end: evaluated, mixed with domains, trained on; what of it never trains."""

import json
from argparse import Namespace
from collections import Counter

import pytest
import task_set_files

from slime_tau2 import traits
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import BenchDataError, CheckpointError, ConfigError
from slime_tau2.hooks import eval_tasks
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.schedule.order import training_tasks
from slime_tau2.tasksets import manifest, openings, writing


@pytest.fixture
def more(tmp_path):
    """A set of retail's, with splits that never train."""
    ids = [t["id"] for t in task_set_files.tasks()]
    splits = {"train": ids[4:], "val": ids[2:4], "held-out": ids[:2]}
    task_set_files.write(tmp_path / "more", splits=splits)
    return tmp_path / "more"


def test_it_is_evaluated_beside_a_domain(tmp_path, more, cli, monkeypatch):
    code, out, error = cli("eval", "--domain", f"{more},airline", "--split", "train", "--output", tmp_path / "run")
    assert (code, error) == (0, "") and "more-retail" in out
    records = [json.loads(line) for line in (tmp_path / "run" / "attempts.jsonl").read_text().splitlines()]
    sha256 = manifest.read(more).sha256
    of_set = [r for r in records if r["domain"] == "more-retail"]
    assert len(of_set) == 8, "of twelve"
    assert {(r["reward"], r["task_set"], r["task_set_sha256"]) for r in of_set} == {(1.0, "more-retail", sha256)}
    assert {r["database_sha256"] for r in of_set} == {manifest.read(more).own_database_sha256}
    assert all("task_set" not in r for r in records if r["domain"] == "airline")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["sets"][0]["task_set_sha256"] == sha256 and plan["sets"][0]["tau2_domain"] == "retail"
    openings.close_all()
    assert cli("report", tmp_path / "run")[0] == 0
    monkeypatch.chdir(more)
    openings.close_all()
    assert cli("eval", "--domain", ".", "--split", "held-out", "--output", tmp_path / "other")[0] == 0


def test_another_version_is_neither_resumed_nor_compared(tmp_path, more, cli):
    run = ["eval", "--domain", more, "--output", tmp_path / "run"]
    assert cli(*run)[0] == 0
    tasks = task_set_files.tasks()
    tasks[0]["user_scenario"]["instructions"]["task_instructions"] = "Be brief."
    openings.close_all()
    task_set_files.write(tmp_path / "again", tasks=tasks)
    more.rename(tmp_path / "old")
    (tmp_path / "again").rename(more)
    code, _, error = cli(*run)
    assert code == 2 and "holds a run of another version of the task set more-retail (sha256 " in error
    assert cli(*run[:-1], tmp_path / "second")[0] == 0
    code, _, error = cli("compare", tmp_path / "run", tmp_path / "second")
    assert code == 2 and "not scored alike (version of the task set more-retail: run " in error


def test_names(tmp_path, more):
    assert not traits.known("more-retail")
    assert worlds.load(str(more)) is worlds.load("more-retail") and worlds.load("more-retail").domain == "retail"
    assert traits.of("more-retail") is traits.of("retail")
    assert Tau2Config.from_mapping({"domains": [str(more)]}, "here").domains == (str(more),)
    task_set_files.write(tmp_path / "other", count=3)
    with pytest.raises(ConfigError, match=r"/other and .*/more are two task sets named 'more-retail'"):
        Tau2Config.from_mapping({"domains": [str(more), str(tmp_path / "other")]}, "here")
    with pytest.raises(ConfigError, match="more-retail is named twice"):
        Tau2Config.from_mapping({"domains": [str(more), "more-retail"]}, "here")
    content = json.loads((tmp_path / "other" / manifest.FILE).read_text()) | {"name": "airline", "verified": None}
    (tmp_path / "other" / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="name: 'airline' is a domain's; give the set a name of its own"):
        worlds.load(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"/nowhere: no such directory of a task set"):
        worlds.load(str(tmp_path / "nowhere"))


def test_what_never_trains(tmp_path, more, caplog):
    config = Tau2Config(domains=(str(more),))
    world = worlds.load(str(more))
    trained = {t.task_id for t in training_tasks(config).values()}
    assert trained == set(world.task_ids("train")) and len(trained) == 8
    assert {t.task_id for t in training_tasks(Tau2Config(domains=(str(more),), split="base")).values()} == trained
    assert "more-retail: 4 of the 12 tasks of base do not train: 2 of held-out tasks, 2 of val tasks" in caplog.text
    assert len(training_tasks(Tau2Config(domains=(str(more),), split="train+val"))) == 10
    with pytest.raises(ConfigError, match=r"--split held-out of .*: none of its tasks may train"):
        training_tasks(Tau2Config(domains=(str(more),), split="held-out"))


def test_what_was_not_verified_never_trains(tmp_path, caplog):
    task_set_files.write(tmp_path / "s", verified=False)
    config = Tau2Config(domains=(str(tmp_path / "s"),), split="train+val")
    with pytest.raises(ConfigError, match=r"task set more-retail was never verified.*tau2_unverified: true"):
        training_tasks(config)
    assert len(training_tasks(config.model_copy(update={"unverified": True}))) == 12
    ids = list(worlds.load("more-retail").tasks)
    verdicts = [writing.Verdict(task=t, passed=n > 2, why="" if n > 2 else "noop earns 1.0") for n, t in enumerate(ids)]
    writing.write_verified(tmp_path / "s", verdicts, checks=["noop"])
    assert {t.task_id for t in training_tasks(config).values()} == set(ids[3:])
    assert "3 of the 12 tasks of train+val do not train: 3 of unverified tasks" in caplog.text


@pytest.fixture(scope="module")
def check():
    check = OfficialCheck(workers=1, timeout_s=120)
    yield check
    check.close()


async def test_several_databases_in_one_set(tmp_path, check):
    orders = {name: task_set_files.changed_database(tmp_path / f"{name}.json", n) for n, name in enumerate("ab")}
    own = task_set_files.tasks(count=1)[0] | {"database": "own"}
    rows = [task_set_files.cancel(order, f"cancel-{name}") | {"database": name} for name, order in orders.items()]
    databases = {name: tmp_path / f"{name}.json" for name in orders} | {"own": domain_dir("retail") / "db.json"}
    task_set_files.write(tmp_path / "s", tasks=[*rows, own], databases=databases, name="three")
    world = worlds.load(str(tmp_path / "s"))

    async def play(task_id, script=scripts.gold):
        agent = ScriptedAgent(script(world.task(task_id)))
        return await driver.run_episode(world, task_id, agent, GoldUser(), official=check)

    for task_id in world.tasks:
        episode = await play(task_id)
        assert episode.reward == 1.0
        assert episode.record()["database_sha256"] == world.task_set.database_sha256[task_id]
        assert (await play(task_id, scripts.noop)).reward == 0.0
    world.check()
    a, b = (world.stage(world.task(f"cancel-{name}")).environments for name in orders)
    assert a.base.tools.db.orders[orders["b"]].status == "delivered" != b.base.tools.db.orders[orders["b"]].status
    assert world.stage(world.task(own["id"])).environments is worlds.load("retail").environments, "a copy is shared"
    with pytest.raises(AssertionError, match="three has 3 databases: ask `stage`"):
        world.grader.gold(world.task("cancel-a"))


def test_a_training_mixes_it_and_resumes_on_its_version_alone(tmp_path, more):
    options = {"tau2_domains": [str(more), "airline"], "tau2_domain_weights": {"more-retail": 0.75}}
    args = Namespace(n_samples_per_prompt=2, save=str(tmp_path), load=str(tmp_path), tau2_user="gold", **options)
    source = Tau2DataSource(args)
    groups = source.get_samples(8)
    assert Counter(g[0].metadata["domain"] for g in groups) == {"more-retail": 6, "airline": 2}
    held = set(manifest.read(more).splits["held-out"])
    assert not held & {g[0].metadata["task_id"] for g in groups if g[0].metadata["domain"] == "more-retail"}
    source.end_rollout([])
    source.save(0)
    again = Tau2DataSource(args)
    again.load(0)
    assert [g[0].prompt for g in again.get_samples(8)] == [g[0].prompt for g in groups], "none of them was trained"
    tasks = task_set_files.tasks()
    tasks[5]["user_scenario"]["instructions"]["task_instructions"] = "Be brief."
    more.rename(tmp_path / "old")
    openings.close_all()
    task_set_files.write(more, tasks=tasks)
    with pytest.raises(CheckpointError, match="of another version of the task set more-retail"):
        Tau2DataSource(args).load(0)


def test_an_evaluation_during_training_looks_at_no_held_out_task(tmp_path, more):
    config = Tau2Config(domains=(str(more),))
    trained = training_tasks(config)
    splits = worlds.task_splits("more-retail")
    eval_tasks.check(config, [("more-retail", t) for t in splits["val"]], trained, "here")
    with pytest.raises(ConfigError, match="is a test task, and no checkpoint may be chosen by one"):
        eval_tasks.check(config, [("more-retail", splits["held-out"][0])], trained, "here")
    with pytest.raises(ConfigError, match="is trained on"):
        eval_tasks.check(config, [("more-retail", splits["train"][0])], trained, "here")


async def test_the_hook_plays_its_tasks(tmp_path, more):
    args = Namespace(n_samples_per_prompt=1, tau2_domains=[str(more)], tau2_user="gold")
    source = Tau2DataSource(args)
    (group,) = source.get_samples(1)
    world = Harness(source.config).world(group[0].metadata["domain"])
    assert world.task_set.name == "more-retail" and group[0].metadata["task_id"] in world.tasks


def test_rows_and_attempts_of_it(tmp_path, more, cli, tokenizer):
    code, out, _ = cli("tasks", "--domain", more, "--split", "val", "--output", tmp_path / "val.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "val.jsonl").read_text().splitlines()]
    assert code == 0 and {r["metadata"]["domain"] for r in rows} == {"more-retail"} and len(rows) == 2
    splits = worlds.task_splits(str(more))
    talk = [{"role": "user", "content": "My order."}, {"role": "assistant", "content": "Which?"}]
    ids = [splits["train"][0], splits["val"][0], splits["held-out"][0]]
    lines = [{"messages": talk, "metadata": {"domain": "more-retail", "task_id": t}} for t in ids]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["check-sft", tmp_path / "rows.jsonl", "--tokenizer", TOKENIZER, "--output", tmp_path / "good.jsonl"]
    openings.close_all()
    code, _, error = cli(*command)
    assert code == 2 and "unknown domain 'more-retail'" in error
    code, out, error = cli(*command, "--task-set", more)
    assert code == 0 and "rows 3, of test tasks 0, of val tasks 1, without a trained token 0" in out
    assert "of held-out tasks 1" in out and "1 good rows" in out
    assert cli("eval", "--domain", more, "--split", "train", "--policy", "noop", "--output", tmp_path / "run")[0] == 0
    openings.close_all()
    code, out, error = cli("rft", tmp_path / "run" / "attempts.jsonl", "--output", tmp_path / "rft.jsonl")
    assert code == 2 and "have a script for agent or user" in error, "the set was found where the run had it"
    more.rename(tmp_path / "moved")
    openings.close_all()
    code, out, error = cli("rft", tmp_path / "run" / "attempts.jsonl", "--output", tmp_path / "rft.jsonl")
    assert code == 2 and "the task set more-retail, which is not open: name it with --task-set" in error


def test_a_set_that_does_not_train_is_named_for_evaluation(more):
    harness = Harness(Tau2Config.from_mapping({"task_sets": [str(more)]}, "here"))
    assert harness.world("more-retail").task_set.directory == more.resolve()
    openings.close_all()
    with pytest.raises(BenchDataError, match=r"unknown domain 'more-retail'.*once tau2_domains or tau2_task_sets has"):
        harness.world("more-retail")


def test_a_run_is_read_when_its_set_is_gone(tmp_path, more, cli):
    assert cli("eval", "--domain", more, "--policy", "noop", "--output", tmp_path / "run")[0] == 0
    more.rename(tmp_path / "moved")
    openings.close_all()
    code, out, _ = cli("report", tmp_path / "run")
    assert code == 0 and "more-retail" in out and traits.of("more-retail") is traits.of("retail")
    assert cli("eval", "--domain", tmp_path / "moved", "--policy", "noop", "--output", tmp_path / "run")[0] == 0, (
        "it resumes where the same version lies now"
    )
    openings.close_all()
    code, out, _ = cli("card", tmp_path / "run", "--name", "m", "--output", tmp_path / "card.md")
    assert code == 0 and "task set more-retail" in (tmp_path / "card.md").read_text()
