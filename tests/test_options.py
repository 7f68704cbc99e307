"""`slime-tau2 options` and `--version`: every key of --set with its default, readable in 80 columns; which versions are
here.
"""

import json
import re

import pytest

from slime_tau2 import bench
from slime_tau2.cli_options import entries, text
from slime_tau2.config import Tau2Config
from slime_tau2.evaluation.presets import OPTIONS
from slime_tau2.experiments.settings import PipelineSettings


def test_every_key_is_there_with_its_help(cli):
    rows = json.loads(cli("options", "--json")[1])
    assert [r["key"] for r in rows if r["command"] == "eval"] == list(Tau2Config.model_fields)
    assert [r["key"] for r in rows if r["command"] == "quickstart"] == list(PipelineSettings.model_fields)
    assert all(r["help"] and r["type"] and "typing" not in r["type"] and "<class" not in r["type"] for r in rows)
    by_key = {r["key"]: r for r in rows if r["command"] == "eval"}
    assert (by_key["protocol"]["type"], by_key["agent_prompt"]["type"], by_key["domains"]["type"]) == (
        "native | card",
        "path or null",
        "list",
    )
    assert by_key["credit_discount"]["type"] == "number >= 0 and <= 1" and by_key["max_steps"]["default"] == 200
    assert {k: by_key[k]["default"] for k in OPTIONS} == {"seeded_sampling": True, "retail_basis": "judge"}, (
        "eval's own"
    )


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal_but_a_word(width):
    lines = text(list(entries()), width).splitlines()
    assert max(map(len, lines)) <= width and lines[-1] and "retail_basis = communicate" in " ".join(lines[:6])


def test_a_word_filters_by_name_and_else_by_text(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = cli("options", "user_model")[1]
    assert re.findall(r"^(\w+) = ", out, re.MULTILINE) == ["user_model", "eval_user_model"] and "quickstart" not in out
    assert cli("options", "tau2_user_model")[1] == out
    assert "max_steps = 200 (whole number > 0)" in cli("options", "leaderboard")[1], "named in its text"
    code, _, error = cli("options", "protokol")
    assert code == 2 and error == "error: no option has protokol in its name or its text; did you mean protocol?\n"


@pytest.mark.parametrize("command", ["eval", "collect", "quickstart", "study"])
def test_the_commands_help_points_to_it(cli, command):
    assert "slime-tau2 options" in " ".join(re.sub(r"[│╭╰─]", "", cli(command, "--help")[1]).split())


def test_users_help_names_the_server(cli):
    assert "user_base_url" in cli("eval", "--help")[1]


def test_versions(cli, monkeypatch):
    from slime_tau2 import __version__, vintage
    from slime_tau2.errors import BenchDataError

    assert cli("--version")[:2] == (0, f"slime_tau2 {__version__}, {bench.VINTAGE}\n")

    def absent():
        raise BenchDataError("tau2-bench is not installed")

    monkeypatch.setattr(vintage, "find", absent)
    assert cli("--version")[:2] == (0, f"slime_tau2 {__version__}, no tau2: tau2-bench is not installed\n")
