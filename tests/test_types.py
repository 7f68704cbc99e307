"""The failure table: one enum, one disposition each, one table in the docs that says the same."""

import re
from pathlib import Path

from slime_tau2 import bench, errors
from slime_tau2.terminations import GRADED_REASONS, UNNAMED, Disposition, Termination

DOCS = Path(__file__).parents[1] / "docs" / "failures.md"


def test_every_termination_has_a_disposition_and_a_tau2_name():
    assert {t.disposition for t in Termination} == set(Disposition)
    for t in Termination:
        bench.TerminationReason(t.tau2_reason)


def test_what_is_graded_is_what_tau2_grades():
    """The two stops, by our name and by tau2's; nothing that ran out or broke off is."""
    assert {t for t in Termination if t.graded} == {Termination.USER_STOP, Termination.AGENT_STOP}
    assert {"user_stop", "agent_stop"} == GRADED_REASONS and UNNAMED not in GRADED_REASONS
    assert not any(t.graded and t.exhausted for t in Termination)
    assert all(t.disposition is Disposition.SCORE for t in Termination if t.graded)


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
        Termination.WORKER_FAILURE,
        Termination.TIMEOUT,
    }
    assert {t.disposition for t in outside} == {Disposition.RETRY}


def test_an_error_carries_the_ending_that_it_brings_about():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.EpisodeError)]
    leaves = {
        k.__name__: k.termination for k in kinds if not any(other is not k and issubclass(other, k) for other in kinds)
    }
    assert leaves == {
        "PolicyError": Termination.POLICY_FAILURE,
        "PolicyAborted": Termination.ABORTED,
        "UserSimulatorError": Termination.USER_FAILURE,
        "JudgeError": Termination.JUDGE_FAILURE,
        "CheckError": Termination.CHECK_FAILURE,
        "WorkerError": Termination.WORKER_FAILURE,
        "ScoreMismatch": Termination.SCORE_MISMATCH,
    }
    assert all(t.disposition is not Disposition.SCORE for t in leaves.values())
