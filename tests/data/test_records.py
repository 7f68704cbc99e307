"""The records of attempts: their fields are documented, older ones are read, later ones refused by name."""

import json
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import run_files

from slime_tau2 import record
from slime_tau2.data import records
from slime_tau2.episode import driver, scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
ROW = run_files.record("airline", "3", 0, 1.0, turns=[run_files.TURN])


def written(tmp_path, *rows):
    path = tmp_path / "attempts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def format_1(row):
    """As slime_tau2 0.2 wrote it."""
    older = {k: v for k, v in format_2(row).items() if k not in ("format", "disposition")}
    return older | {"policy": row["disposition"]}


def format_2(row):
    """As slime_tau2 0.3 wrote it."""
    turns = [{k: v for k, v in turn.items() if k != "by_call"} for turn in row["turns"]]
    return row | {"format": 2, "turns": turns}


def test_every_field_has_its_line_in_the_docs():
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("### What a record holds") :].partition("\n## ")[0].partition("\n### Servers")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M))
    assert rows == record.fields()
    assert set(rows) == set(get_type_hints(record.AttemptRecord))


async def test_an_episode_writes_each_of_its_fields(helpdesk, tmp_path):
    agent = ScriptedAgent(scripts.gold(helpdesk.task("orders_1")))
    episode = await driver.run_episode(helpdesk, "orders_1", agent, GoldUser())
    row = episode.record()
    of_a_set = {"task_set", "task_set_sha256", "database_sha256"}
    assert {*row, *of_a_set} == set(get_type_hints(record.EpisodeRecord)) and row["format"] == record.FORMAT
    assert not of_a_set & row.keys()
    assert row["disposition"] == "score" and row["turns"][0]["sent"]
    path = written(tmp_path, {"attempt": 0, **row})
    assert records.read(path) == [{"attempt": 0, **json.loads(json.dumps(row))}]


def test_a_record_of_format_1_is_read_in_todays_form(tmp_path):
    assert records.read(written(tmp_path, format_1(ROW))) == [ROW]
    bare = {k: v for k, v in format_1(ROW).items() if k not in ("policy", "usage", "reasoning", "sampled_tokens")}
    (read,) = records.read(written(tmp_path, bare))
    assert read["disposition"] == "score" and read["usage"] == {} and "policy" not in read
    with pytest.raises(
        ConfigError, match=r"line 1: a record of format 1 \(slime_tau2 0\.1 or 0\.2\) without turns\.0\.gain"
    ):
        turn = {k: v for k, v in run_files.TURN.items() if k != "gain"}
        records.read(written(tmp_path, format_1(ROW | {"turns": [turn]})))


@pytest.mark.parametrize("lacking", ["tau2", "seed"])
def test_an_older_record_that_lacks_a_field_is_refused_by_its_age(tmp_path, lacking):
    older = {k: v for k, v in format_1(ROW).items() if k != lacking}
    for row in (older, older | {"format": 1}):
        with pytest.raises(ConfigError, match=rf"format 1 \(slime_tau2 0\.1 or 0\.2\) without {lacking};"):
            records.read(written(tmp_path, row))


def test_a_format_that_says_its_number_is_read_as_what_it_says(tmp_path):
    assert records.read(written(tmp_path, format_1(ROW) | {"format": 1})) == [ROW]
    assert records.read(written(tmp_path, ROW | {"format": 1})) == [ROW], "in today's form, whatever named it"
    for none in (0, -1):
        with pytest.raises(ConfigError, match=rf"line 1: a record of format {none}: there is none"):
            records.read(written(tmp_path, ROW | {"format": none}))


def test_a_record_of_format_2_is_read_in_todays_form(tmp_path):
    assert records.read(written(tmp_path, format_2(ROW))) == [ROW]
    with pytest.raises(ConfigError, match=r"a record of format 2 \(slime_tau2 0\.3\) without turns\.0\.gain"):
        turn = {k: v for k, v in run_files.TURN.items() if k not in ("gain", "by_call")}
        records.read(written(tmp_path, format_2(ROW) | {"turns": [turn]}))
    for odd in ("none", ["none"]):
        with pytest.raises(ConfigError, match=r"a record of format 2 .*: turns"):
            records.read(written(tmp_path, ROW | {"format": 2, "turns": odd}))


def test_a_disposition_is_one_of_those_that_there_are(tmp_path):
    why = "disposition: 'nonsense' is none of score, mask, retry then drop"
    with pytest.raises(ConfigError, match=why):
        records.read(written(tmp_path, ROW | {"disposition": "nonsense"}))
    with pytest.raises(ConfigError, match=rf"format 1 .*: {why}"):
        records.read(written(tmp_path, format_1(ROW) | {"policy": "nonsense"}))


def test_a_record_of_a_later_format_is_refused_by_name(tmp_path):
    later = ROW | {"format": record.FORMAT + 1}
    with pytest.raises(ConfigError, match=r"line 2: written by a later slime_tau2 \(records of format 4, this one"):
        records.read(written(tmp_path, ROW, later | {"attempt": 1}))
    with pytest.raises(ConfigError, match="no record of an attempt: format: Input should be a valid integer"):
        records.read(written(tmp_path, ROW | {"format": "new"}))
    with pytest.raises(ConfigError, match="no record of an attempt: disposition: Field required"):
        records.read(written(tmp_path, {k: v for k, v in ROW.items() if k != "disposition"}))


def test_what_tau2_adds_to_a_message_is_kept(tmp_path):
    message = {"role": "user", "content": "Hi", "cost": 0.0, "raw_data": {"a": 1}}
    (read,) = records.read(written(tmp_path, ROW | {"messages": [message]}))
    assert read["messages"] == [message]
