"""Where a group of a hopeless task may begin: successes are loaded from records, and cut before one of the agent's turns."""

import itertools
import json
import random

import pytest
import run_files

from slime_tau2.errors import ConfigError
from slime_tau2.schedule import prefixes

ATTEMPTS = itertools.count()


def record(task="orders_1", reward=1.0, turns=3):
    said = [{"role": "assistant", "content": "Hi!"}]
    for n in range(turns):
        said += [
            {"role": "user", "content": f"u{n}"},
            {"role": "assistant", "content": f"a{n}"},
            {"role": "tool", "content": "t"},
        ]
    return run_files.record("helpdesk", task, next(ATTEMPTS), reward, messages=said)


def test_prefixes_are_loaded_and_cut(tmp_path):
    path = tmp_path / "attempts.jsonl"
    rows = [record(), record(reward=0.0), record(reward=None), record("other"), record(turns=1)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = prefixes.load(path, {"helpdesk/orders_1"})
    assert list(found) == ["helpdesk/orders_1"] and len(found["helpdesk/orders_1"]) == 1
    assert prefixes.load(None, ()) == {}
    (said,) = found["helpdesk/orders_1"]
    cuts = {tuple(m["content"] for m in prefixes.cut(said, random.Random(seed))) for seed in range(20)}
    assert cuts == {("u0", "a0", "u1"), ("u0", "a0", "u1", "a1", "u2")}


def test_a_file_that_is_of_no_use_is_refused(tmp_path):
    path = tmp_path / "attempts.jsonl"
    with pytest.raises(ConfigError, match="does not exist"):
        prefixes.load(path, {"a"})
    path.write_text('{"x": 1}\n')
    with pytest.raises(
        ConfigError, match="line 1: no record of an attempt: domain: Field required; is it the file that you mean"
    ):
        prefixes.load(path, {"a"})
    path.write_text(json.dumps(record()) + "\n")
    with pytest.raises(ConfigError, match="no success on the 1 tasks"):
        prefixes.load(path, {"a"})
