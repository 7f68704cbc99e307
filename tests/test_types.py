"""The failure table: one enum, one policy each, one table in the docs that says the same."""

import re
from pathlib import Path

from slime_tau2 import bench
from slime_tau2.terminations import Disposition, Termination

DOCS = Path(__file__).parents[1] / "docs" / "failures.md"


def test_every_termination_has_a_policy_and_a_tau2_name():
    assert {t.disposition for t in Termination} == set(Disposition)
    for t in Termination:
        bench.TerminationReason(t.tau2_reason)


def test_the_table_in_the_docs_is_the_enum():
    text = DOCS.read_text(encoding="utf-8")
    table = text[text.index("## Terminations") : text.index("## From the trouble")]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\w ]+) \|$", table, re.M)
    assert rows == [
        (t.value, t.disposition.value) for t in sorted(Termination, key=lambda t: [r[0] for r in rows].index(t.value))
    ]
    assert len(rows) == len(Termination)


def test_trouble_outside_the_policy_is_never_scored():
    outside = {
        Termination.USER_FAILURE,
        Termination.POLICY_FAILURE,
        Termination.JUDGE_FAILURE,
        Termination.CHECK_FAILURE,
        Termination.TIMEOUT,
    }
    assert {t.disposition for t in outside} == {Disposition.RETRY}
