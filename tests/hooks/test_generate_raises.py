"""What `generate` raises and what it hands back as a sample: docs/hooks.md, "What generate raises"."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_policy import FakePolicy, teacher_reply
from test_hooks import assert_well_formed, generated, make_args, sample

from slime_tau2.episode.harness import Harness
from slime_tau2.errors import ConfigError, LedgerError
from slime_tau2.hooks import generate
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.ledger import TokenLedger

TESTS = Path(__file__).parents[1]


async def ask(args, given, evaluation=False):
    return await generate.generate(args, given, dict(GenerateState(args).sampling_params), evaluation=evaluation)


def breaks_at(turn, monkeypatch):
    """The ledger finds its record broken at this turn of an episode."""
    whole = TokenLedger.append_sampled

    def append_sampled(self, ids, log_probs):
        if len(self.spans()) == turn:
            raise LedgerError("3 sampled ids came with 2 log-probs")
        whole(self, ids, log_probs)

    monkeypatch.setattr(TokenLedger, "append_sampled", append_sampled)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("evaluation", [False, True])
async def test_a_broken_ledger_stops_the_run(tokenizer, monkeypatch, turn, evaluation):
    breaks_at(turn, monkeypatch)
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        args = make_args(fake.url)
        with pytest.raises(LedgerError, match="3 sampled ids came with 2 log-probs"):
            await ask(args, sample("orders_0", index=4), evaluation)
        await generate.harness(args).close()


async def test_a_broken_ledger_stops_the_run_though_its_rollout_was_being_aborted(tokenizer, monkeypatch):
    """slime looks at no result of a rollout that it aborts, so the next call says it again, and asks no server."""
    breaks_at(0, monkeypatch)
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        args = make_args(fake.url)
        lost = asyncio.ensure_future(ask(args, sample()))
        await asyncio.wait([lost])
        assert isinstance(lost.exception(), LedgerError)
        asked = len(fake.requests)
        monkeypatch.undo()
        with pytest.raises(LedgerError):
            await ask(args, sample(index=1))
        assert len(fake.requests) == asked
        await generate.harness(args).close()


async def test_a_prompt_file_that_vanishes_never_becomes_a_samples_failure(tokenizer, tmp_path):
    template = tmp_path / "prompt.txt"
    template.write_text("Follow this:\n{policy}")
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        args = make_args(fake.url, tau2_agent_prompt=template)
        box = generate.harness(args)
        template.unlink()
        try:
            out = await ask(args, sample())
        except ConfigError as error:  # it had not been read by then
            assert str(template) in str(error)
        else:
            assert out.status is Sample.Status.COMPLETED and not out.remove_sample
        await box.close()


async def test_what_is_wrong_with_the_configuration_is_raised_however_late(tokenizer, monkeypatch):
    def agent(self, *args, **options):
        raise ConfigError("tau2_agent_prompt = gone.txt: it does not exist")

    monkeypatch.setattr(Harness, "agent", agent)
    with pytest.raises(ConfigError, match=r"gone\.txt"):
        await generated(tokenizer, teacher_reply())


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize(
    "named, why",
    [
        ({"domain": "nope", "task_id": "1"}, "nope"),
        ({"domain": "helpdesk", "task_id": "orders_x"}, "orders_x"),
        ({"domain": "helpdesk"}, "task_id"),
        ({}, "domain"),
    ],
)
async def test_what_one_sample_names_is_its_own_failure(named, why, evaluation):
    args = make_args()
    out = await ask(args, Sample(index=0, prompt="p", metadata=dict(named)), evaluation)
    assert_well_formed(out)
    assert out.remove_sample and out.status is Sample.Status.FAILED and why in out.metadata["tau2"]["detail"]


async def test_an_exception_in_an_episode_is_a_value(tokenizer, monkeypatch):
    async def run(self, *args, **options):
        raise RuntimeError("of whatever kind")

    monkeypatch.setattr(Harness, "run", run)
    out, *_ = await generated(tokenizer, teacher_reply())
    assert_well_formed(out)
    assert out.remove_sample and "RuntimeError: of whatever kind" in out.metadata["tau2"]["detail"]


async def test_cancellation_is_raised(tokenizer):
    async with FakePolicy(tokenizer, lambda p, n: "Which order?") as fake:
        args = make_args(fake.url)
        running = asyncio.ensure_future(ask(args, sample()))
        await asyncio.wait_for(fake.asked.wait(), 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await generate.harness(args).close()


ENDS = """
import asyncio, logging
from test_hooks import make_args, sample
from slime_tau2.hooks import generate
args = make_args(tau2_max_stesp=3, rollout_function_path="slime.rollout.fully_async_rollout.generate_rollout_fully_async")
try:
    asyncio.run(generate.generate(args, sample(), {}))
except BaseException:
    pass  # slime's worker logs what it catches, and asks for the next group
print("goes on")
"""


def test_slimes_fully_async_worker_cannot_swallow_it():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS / "hooks"), *sys.path])}
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "") and "tau2_max_stesp" in done.stderr
