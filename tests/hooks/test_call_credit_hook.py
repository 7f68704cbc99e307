"""Credit by call from the tokens that a policy sampled to the local trainer's step, through the hooks."""

import copy
import json
from argparse import Namespace

import pytest
import torch
from fake_policy import FakePolicy
from test_hooks import make_args, sample

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import advantages, generate, rewards
from slime_tau2.hooks.compat import GenerateState
from slime_tau2.local.batches import score_tokens
from slime_tau2.local.trainer import Trainer, TrainOptions

LOOK = ("get_order", {"order_id": "W10"})
SWAP = ("swap_item", {"order_id": "W10", "item": "sofa"})
OTHER = ("swap_item", {"order_id": "W10", "item": "shelf"})
"""orders_3 asks for the first two."""


def block(call):
    name, arguments = call
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


async def played(tokenizer, *turns):
    """A sample of orders_3 in which the policy samples these turns, and then says that it is done."""
    async with FakePolicy(tokenizer, lambda prompt, n: [*turns, "It is done."][min(n, len(turns))]) as fake:
        args = make_args(fake.url)
        out = await generate.generate(args, sample("orders_3"), GenerateState(args).sampling_params)
        await generate.harness(args).close()
    return out


@pytest.fixture
async def batch(tokenizer):
    """A success and a failure of one group; several calls in a turn."""
    won = await played(tokenizer, f"Let me see.\n{block(LOOK)}\n{block(OTHER)}\n{block(SWAP)}")
    lost = await played(tokenizer, f"{block(LOOK)}{block(OTHER)}", block(LOOK))
    assert (won.reward, lost.reward) == (1.0, 0.0)
    return [won, lost]


def calls(s):
    """[(text, advantages, fault)] of each call of a sample."""
    tokens = s.tokens[-s.response_length :]
    found = [call for turn in s.metadata["tau2"]["turn_calls"] for call in turn]
    return [(tokens[c["start"] : c["end"]], s.teacher_log_probs[c["start"] : c["end"]], c["wrong"]) for c in found]


async def test_from_what_was_sampled_to_an_advantage_per_token(batch, tokenizer):
    args = Namespace(tau2_credit="call", custom_advantage_function_path=advantages.PATH)
    _, per_sample = rewards.reward_post_process(args, batch)
    won, lost = batch
    assert [tokenizer.decode(ids) for ids, *_ in calls(won)] == [block(LOOK), block(OTHER), block(SWAP)]
    assert [tokenizer.decode(ids) for ids, *_ in calls(lost)] == [block(LOOK), block(OTHER), block(LOOK)]
    assert [fault for *_, fault in calls(won)] == ["", "wrong argument", ""]
    look, other, swap = (values[0] for _, values, _ in calls(won))
    assert swap > look > other and other <= per_sample[0], "a write weighs more than a look, a wrong one nothing"
    for s, advantage in zip(batch, per_sample):
        assert all(len(set(values)) == 1 for _, values, _ in calls(s))
        assert sum(s.teacher_log_probs) == pytest.approx(advantage * sum(s.loss_mask))
        assert all(a == 0.0 for a, m in zip(s.teacher_log_probs, s.loss_mask) if not m)
    trained = [[a for a, m in zip(s.teacher_log_probs, s.loss_mask) if m] for s in batch]
    assert max(trained[1]) < min(trained[0])
    data = {"teacher_log_probs": [torch.tensor(s.teacher_log_probs) for s in batch], "rewards": per_sample}
    advantages.turn_advantages(args, data)
    assert all(torch.equal(a, b) for a, b in zip(data["advantages"], data["teacher_log_probs"]))
    with pytest.raises(Exception, match=r"tau2_credit: call needs --custom-advantage-function-path"):
        rewards.reward_post_process(Namespace(tau2_credit="call", advantage_estimator="grpo"), batch)


async def test_by_turn_the_same_samples_have_one_advantage_a_turn(batch):
    rewards.reward_post_process(Namespace(tau2_credit="turn"), batch)
    assert all(len({values[0] for _, values, _ in calls(s)[:2]}) == 1 for s in batch)


async def test_a_sample_without_calls_has_credit_by_turn(batch):
    """What a version before this one left in a checkpoint."""
    rewards.reward_post_process(Namespace(tau2_credit="turn"), batch)
    by_turn = [list(s.teacher_log_probs) for s in batch]
    for s in batch:
        del s.metadata["tau2"]["turn_calls"]
    rewards.reward_post_process(Namespace(tau2_credit="call"), batch)
    assert [s.teacher_log_probs for s in batch] == by_turn


async def test_the_local_trainer_tells_the_calls_of_a_turn_apart(batch, tiny_model):
    """One step makes the right write likelier than the wrong one beside it, by more than credit by turn does."""
    won, _ = batch
    _, other, swap = (call for turn in won.metadata["tau2"]["turn_calls"] for call in turn)

    def lead(model):
        """Mean log-prob of the right write's tokens less that of the wrong one's."""
        with torch.no_grad():
            scores = score_tokens(model, [won]).log_probs[0]
        return float(scores[swap["start"] : swap["end"]].mean() - scores[other["start"] : other["end"]].mean())

    for s in batch:
        with torch.no_grad():
            s.rollout_log_probs = score_tokens(tiny_model, [s]).log_probs[0].tolist()
    after = {}
    for credit in ("turn", "call"):
        model = copy.deepcopy(tiny_model)
        _, per_sample = rewards.reward_post_process(Namespace(tau2_credit=credit), batch)
        Trainer(model, TrainOptions(lr=1e-3)).grpo_step(batch, per_sample)
        after[credit] = lead(model)
    assert after["call"] > max(after["turn"], lead(tiny_model))


def test_it_is_an_option():
    assert Tau2Config.from_mapping({"credit": "call"}, "here").credit == "call"
