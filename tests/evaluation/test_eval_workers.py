"""`eval --workers N`: the same records as without, the same counts, and servers that are watched from all workers."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_policy import FakePolicy, teacher_reply
from serving import Serving

from slime_tau2.config import Tau2Config
from slime_tau2.data import records
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import worlds
from slime_tau2.evaluation import players, policies, vigil
from slime_tau2.evaluation.plan import TaskSet
from slime_tau2.evaluation.request import EvalRequest
from slime_tau2.factory import sets

TIMES = ("wall_s", "policy_s", "user_s", "run")


class Teacher(FakePolicy):
    """The helpdesk teacher, with flaws of its own in each conversation, whoever asks."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer, teacher_reply())
        self.teachers = {}

    def reply_to(self, request):
        key = request.headers["X-SMG-Routing-Key"]
        return self.teachers.setdefault(key, teacher_reply(1.0, seed=key))


def told(path):
    """{(task, attempt): its record without times}; what tau2 stamps on messages is a time."""
    out = {}
    for record in records.read(path / records.FILE):
        kept = {k: v for k, v in record.items() if k not in TIMES}
        kept["messages"] = [{k: v for k, v in m.items() if k != "timestamp"} for m in record["messages"]]
        out[record["task_id"], record["attempt"]] = kept
    return out


@pytest.fixture
def asked(tokenizer, cli, tmp_path):
    def ask(workers, *options):
        output = tmp_path / f"workers-{workers}"
        with Serving(Teacher(tokenizer)) as server:
            tasks = [part for n in range(250, 260) for part in ("--task", f"orders_{n}")]
            code, out, error = cli(
                "eval",
                "--policy",
                server.url,
                "--tokenizer",
                TOKENIZER,
                "--user",
                "scripted",
                "--attempts",
                3,
                *tasks,
                "--workers",
                workers,
                "--output",
                output,
                *options,
            )
        return code, out, error, output

    return ask


def test_two_workers_leave_the_records_that_one_process_leaves(asked):
    alone, shared = asked(0), asked(2)
    for code, out, error, _ in (alone, shared):
        assert code == 0 and "30 of 30 attempts scored" in out and "token mismatches: 0 in 30 episodes" in out, error
    assert "2 workers share the servers' limits: tau2_policy_concurrency 256, 128 or more each" in shared[1]
    one, two = told(alone[3]), told(shared[3])
    assert one == two
    assert len(one) == 30 and all(record["turn_tokens"] for record in two.values())
    assert len({record["reward"] for record in one.values()}) == 2, "some were won, some lost"


def test_scripts_have_workers_too_and_the_cross_check_counts_in_them(cli, tmp_path):
    options = ("--policy", "gold", "--task", "orders_250", "--task", "phones_250", "--set", "official_check=1")
    code, out, error = cli("eval", *options, "--workers", 1, "--output", tmp_path)
    assert code == 0 and "tau2's own evaluator graded 2 episodes again and agreed" in out, error


def test_a_server_that_falls_silent_is_seen_from_the_workers(asked, monkeypatch):
    monkeypatch.setattr(vigil, "SILENT_S", 1.0)
    heard = []
    watching = vigil.watching

    def watched(servers, stop, *, silences):
        async def spied():
            heard.append(await silences())
            return {role: 60.0 for role in heard[-1]} if len(heard) > 1 else heard[-1]

        return watching(servers, stop, 0.5, 0.5, silences=spied)

    monkeypatch.setattr(vigil, "watching", watched)
    code, out, _, _ = asked(1)
    assert code == 0 and "30 of 30" in out, "its probes are answered"
    assert heard and set(heard[0]) <= {"policy"}


@pytest.mark.parametrize(
    "options, why",
    [
        (("--set", "workers=2"), "--set workers: an evaluation does not read it; use --workers"),
        (("--set", "policy_concurrency=1"), "tau2_policy_concurrency = 1, and 2 workers share it"),
    ],
)
def test_workers_that_cannot_be(asked, options, why):
    code, _, error, output = asked(2, *options)
    assert code == 2 and why in error and not (output / records.FILE).exists()


def test_workers_play_a_task_set(cli, tmp_path):
    """They are other processes: what is open here is opened there, too."""
    sets.make_set(tmp_path / "cases", name="cases", factory="helpdesk-cases", count=12, seed=0)
    options = ("--split", "train", "--policy", "gold", "--attempts", 1, "--workers", 1)
    code, out, error = cli("eval", "--domain", tmp_path / "cases", *options, "--output", tmp_path / "run")
    assert code == 0 and "attempts scored" in out, error
    assert {r["reward"] for r in records.read(tmp_path / "run" / records.FILE)} == {1.0}


def test_what_workers_share_is_loaded_before_they_are_forked(helpdesk, monkeypatch):
    """In the nursery, which makes a player and plays nothing."""
    loaded = []
    real = worlds.load
    monkeypatch.setattr(worlds, "load", lambda domain, **how: (loaded.append(domain), real(domain, **how))[1])
    request = EvalRequest(output=Path(), domain="helpdesk", policy="gold").resolved()
    with ExitStack() as stack:
        policy = policies.policy(request, Tau2Config(), stack)
        loaded.clear()
        share = {"sets": (TaskSet.of(helpdesk, "test"),), "remake": policy.remake, "judged": False}
        players.in_worker(Tau2Config(), 0, 2, **share)
    assert "helpdesk" in loaded
