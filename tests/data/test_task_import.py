"""Published tasks become task sets: AReaL's shape, and tau2's own files."""

import json
import shutil

import pytest
import task_set_files

from slime_tau2 import bench
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.data import task_import
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.tasksets import stored


@pytest.fixture
def areal(tmp_path):
    """Three domains over four databases, an id that is there twice, one that has no domain in it."""
    root = tmp_path / "areal"
    folder = root / "tau2_rl_database"
    folder.mkdir(parents=True)
    task_set_files.changed_database(folder / "tau2_retail_new_db_1.json", 0)
    task_set_files.changed_database(folder / "tau2_retail_new_db_2.json", 1)
    shutil.copy(domain_dir("airline") / "db.json", folder / "tau2_airline_db.json")
    (folder / "tau2_telecom_db.toml").write_text((domain_dir("telecom") / "db.toml").read_text() + "\n")
    rows = [
        ("retail_0", "retail", "retail_new_db_1.json"),
        ("retail_0", "retail", "retail_new_db_2.json"),
        ("17", "retail", "retail_new_db_1.json"),
        ("airline_0", "airline", "airline_db.json"),
        ("telecom_0", "telecom", "telecom_db.toml"),
    ]
    write(root, [areal_row(*r) for r in rows])
    return root


def areal_row(task_id, domain, database):
    (row,) = task_set_files.tasks(domain, 1)
    row["user_scenario"]["instructions"]["domain"] = domain
    criteria = json.dumps(row["evaluation_criteria"])
    return row | {"id": task_id, "evaluation_criteria": criteria, "db_path": f"tau2_rl_database/tau2_{database}"}


def write(root, rows):
    (root / task_import.AREAL_TASKS).write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_areal_becomes_a_set_for_each_domain(tmp_path, areal, cli):
    code, out, error = cli("import-tasks", areal, "--format", "areal", "--output", tmp_path / "sets")
    assert (code, error) == (0, "")
    assert "areal-retail: 3 tasks of retail, databases: 2" in out and "1 tasks had an id that another has" in out
    retail = stored.read(tmp_path / "sets" / "areal-retail")
    assert retail.database_of == {
        "retail_0": "tau2_retail_new_db_1",
        "retail_0@row2": "tau2_retail_new_db_2",
        "17": "tau2_retail_new_db_1",
    }
    rows = [json.loads(line) for line in (tmp_path / "sets/areal-retail/tasks.jsonl").read_text().splitlines()]
    assert [r["source"] for r in rows] == [
        {"id": "retail_0", "row": 1},
        {"id": "retail_0", "row": 2},
        {"id": "17", "row": 3},
    ]
    assert retail.manifest.license == "Apache-2.0"
    assert retail.manifest.provenance["source"] == "inclusionAI/AReaL-tau2-data"
    airline = worlds.load(str(tmp_path / "sets" / "areal-airline"))
    assert airline.environments is worlds.load("airline").environments, "its database is tau2's own, byte for byte"
    telecom = worlds.load(str(tmp_path / "sets" / "areal-telecom"))
    assert telecom.spec.database.sha256[0] == telecom.task_set.database_sha256["telecom_0"]
    command = ["eval", "--domain", ",".join(str(p) for p in sorted((tmp_path / "sets").iterdir()))]
    code, out, _ = cli(*command, "--output", tmp_path / "run")
    assert code == 0 and "5 of 5 attempts scored; 5 earned reward 1.0" in out


@pytest.mark.parametrize(
    "harm, said",
    [
        ({"db_path": "../other.json"}, r"line 5: db_path: '\.\./other\.json' leaves .*a set's files lie within it"),
        ({"db_path": "/etc/passwd"}, r"line 5: db_path: '/etc/passwd' leaves"),
        ({"db_path": "tau2_rl_database/none.json"}, r"line 5: db_path 'tau2_rl_database/none\.json': no such file"),
        ({"db_path": None}, "line 5: db_path is None, and not a path"),
        ({"db_path": "tau2_rl_database/tau2_airline_db.json"}, "is no TelecomDB of telecom"),
        ({"evaluation_criteria": "{"}, "line 5: evaluation_criteria: not JSON"),
        ({"evaluation_criteria": "[1]"}, "line 5: no task of tau2's: evaluation_criteria: Input should be"),
        ({"id": "9", "user_scenario": {"instructions": "Go."}}, "line 5: task '9': neither its id nor user_scenario"),
        ({"user_scenario": None}, "line 5: no task of tau2's: user_scenario"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_left(tmp_path, areal, harm, said):
    rows = [json.loads(line) for line in (areal / task_import.AREAL_TASKS).read_text().splitlines()]
    write(areal, [*rows[:4], rows[4] | harm])
    with pytest.raises((ConfigError, BenchDataError), match=said):
        task_import.import_areal(areal, tmp_path / "sets")
    assert not list((tmp_path / "sets").glob("*")) if (tmp_path / "sets").exists() else True


def test_it_writes_over_nothing(tmp_path, areal):
    (tmp_path / "sets" / "areal-retail").mkdir(parents=True)
    with pytest.raises(ConfigError, match="areal-retail exists; use another --output"):
        task_import.import_areal(areal, tmp_path / "sets")


def test_tau2s_own_files_become_a_set(tmp_path, cli):
    folder = domain_dir("retail")
    source = tmp_path / "source"
    source.mkdir()
    for file in ("tasks.json", "db.json", "split_tasks.json"):
        shutil.copy(folder / file, source / file)
    command = ["import-tasks", source, "--format", "tau2", "--name", "mine", "--license", "MIT"]
    code, out, error = cli(*command, "--output", tmp_path / "mine")
    assert (code, error) == (0, "") and f"mine: {len(worlds.load('retail').tasks)} tasks of retail, databases: 1" in out
    world, own = worlds.load(str(tmp_path / "mine")), worlds.load("retail")
    assert world.environments is own.environments and set(world.task_ids("test")) == set(own.task_ids("test"))
    assert world.tasks.keys() == own.tasks.keys()
    (source / "db.json").unlink()
    (source / "split_tasks.json").unlink()
    made = task_import.import_tau2(source / "tasks.json", tmp_path / "other", name="other")
    assert made.sets[0].manifest.databases == {} and list(made.sets[0].manifest.splits) == ["train"]
    tasks = json.loads((source / "tasks.json").read_text())
    tasks[0]["user_scenario"]["instructions"]["domain"] = "airline"
    (source / "tasks.json").write_text(json.dumps(tasks))
    code, _, error = cli(*command, "--output", tmp_path / "third")
    assert code == 2 and "the scenarios say airline, retail as their domain; name it with --domain" in error
    assert "--format x: there are areal and tau2" in cli(*command[:3], "x", "--output", tmp_path / "x")[2]
    assert bench.VINTAGE
