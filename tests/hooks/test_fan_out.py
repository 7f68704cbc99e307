"""Episodes of several samples: one policy that thinks, through every hook that sees samples, into the trainer."""

import asyncio
import copy
import json

import pytest
from fake_policy import FakePolicy
from test_hooks import assert_well_formed, make_args, sample
from thinking_models import thinking_teacher, tokenizer_of

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import audit
from slime_tau2.hooks import advantages, current, data_source, fan_out, filters, generate, rewards
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.samples import info


@pytest.fixture(scope="module")
def thinker(tokenizer, tmp_path_factory):
    """(the bundled tokenizer with Qwen3's hybrid template, its directory)"""
    path = tmp_path_factory.mktemp("thinker")
    made, _ = tokenizer_of(tokenizer, "qwen3")
    made.save_pretrained(path)
    return made, str(path)


@pytest.fixture(autouse=True)
def no_source(monkeypatch):
    monkeypatch.setattr(current, "_source", None)


async def played(thinker, given, reply=None, evaluation=False, **over):
    tokenizer, path = thinker
    async with FakePolicy(tokenizer, reply or thinking_teacher()) as fake:
        args = make_args(fake.url, hf_checkpoint=path, **over)
        params = GenerateState(args).sampling_params
        out = await asyncio.gather(*(generate.generate(args, s, dict(params), evaluation=evaluation) for s in given))
        harness = generate.harness(args)
        await harness.close()
        return args, out, fake, harness


async def test_an_episode_becomes_its_segments(thinker):
    given = sample("orders_0", index=7, group=3)
    _, (out,), fake, _ = await played(thinker, [given])
    assert isinstance(out, list) and len(out) > 1 and out[0] is given
    sent = [r["input_ids"] for r in fake.requests]
    told = info(given)
    assert len(sent) == told["turns"] == sum(len(info(s)["turn_spans"]) for s in out)
    for n, s in enumerate(out):
        assert_well_formed(s)
        assert (s.index, s.group_index, s.rollout_id, s.reward, s.status) == (7, 3, 7, 1.0, Sample.Status.COMPLETED)
        assert info(s)["segment"] == n and info(s)["segments"] == told["segments"] and s.tokens[:-1] not in sent
        prompt = s.tokens[: -s.response_length]
        assert prompt in sent, "a prompt as the server saw it"
        assert (len(prompt), s.response_length, sum(s.loss_mask)) == tuple(
            told["segments"][n][k] for k in ("prompt", "response", "sampled")
        )
        assert thinker[0].decode(s.tokens).count("Request") == len(info(s)["turn_spans"]), "earlier thoughts are gone"
    assert all(any(s.tokens[: len(ids)] == ids for s in out) for ids in sent), "each request is in a segment"
    assert json.dumps(told)


@pytest.mark.parametrize("family", ["qwen3", "qwen3 2507", "qwen3 on"])
async def test_nothing_of_a_thought_is_heard_and_no_token_differs(tokenizer, helpdesk, family):
    from slime_tau2.config import Tau2Config
    from slime_tau2.episode.harness import Harness
    from slime_tau2.episode.policy import PolicyClient

    made, thinking = tokenizer_of(tokenizer, family)
    async with FakePolicy(made, thinking_teacher()) as fake:
        box = Harness(Tau2Config(user="scripted", thinking=thinking), made, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"max_new_tokens": 20_000})
        episode = await box.run(helpdesk, "orders_0", agent, seed=1)
        await box.close()
    prompt = box.system_prompt(helpdesk)
    assert episode.reward == 1.0 and len(episode.segments) > 1
    assert not audit.is_mismatch(episode, box.chat("helpdesk"), prompt)
    assert "Request" not in json.dumps(episode.messages) and len(episode.reasoning) == len(episode.turns)
    assert all(t.start < t.thought < t.end for t in episode.turns)
    for number, spoil in enumerate((1, -1)):
        spoilt = copy.deepcopy(episode)
        spoilt.segments[number]._ids[spoilt.segments[number].prompt_length + spoil] += 1
        assert audit.is_mismatch(spoilt, box.chat("helpdesk"), prompt)


async def test_thoughts_are_masked_by_option(thinker):
    tokenizer = thinker[0]
    _, (whole,), _, _ = await played(thinker, [sample("orders_0")])
    _, (spared,), _, _ = await played(thinker, [sample("orders_0")], tau2_train_thinking=False)
    for a, b in zip(whole, spared, strict=True):
        assert a.tokens == b.tokens and a.rollout_log_probs == b.rollout_log_probs
        response = b.tokens[-b.response_length :]
        trained = tokenizer.decode([t for t, bit in zip(response, b.loss_mask) if bit])
        masked = tokenizer.decode([t for t, x, y in zip(response, a.loss_mask, b.loss_mask) if x and not y])
        assert (
            "think" not in trained
            and "Request" not in trained
            and trained.count("<|im_end|>") == masked.count("</think>")
        )
        assert masked.startswith("<think>\nRequest") and masked.endswith("</think>")


async def groups_of(thinker, **over):
    """Two groups of three, of which one episode in each fails at once, as slime gives them to the hooks."""

    def reply(prompt, n):
        return "<think>\nNo.\n</think>\n\n###TRANSFER###" if n in (0, 1) else teacher(prompt, n)

    teacher = thinking_teacher()
    given = [sample("orders_0", index=n, group=n // 3) for n in range(6)]
    args, out, _, _ = await played(thinker, given, reply, **over)
    return args, [out[:3], out[3:]]


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("credit", ["episode", "turn", "call"])
async def test_advantages_count_episodes_and_not_segments(thinker, credit, thinking):
    args, groups = await groups_of(thinker, tau2_credit=credit, tau2_shaping="none", tau2_train_thinking=thinking)
    flat = [s for group in groups for episode in group for s in episode]
    for s in flat:
        s.reward = float(s.index % 3 == 0)
    raw, got = rewards.reward_post_process(args, flat)
    assert raw == [s.reward for s in flat]
    assert got == pytest.approx([2 / 3 if s.index % 3 == 0 else -1 / 3 for s in flat])
    for group in groups:
        for episode in group:
            weights = [sum(s.loss_mask) for s in episode]
            per_token = [getattr(s, advantages.FIELD) for s in episode]
            if credit == "episode":
                assert per_token == [None] * len(episode)
                continue
            assert [len(a) for a in per_token] == [s.response_length for s in episode]
            mean = sum(map(sum, per_token)) / sum(weights)
            assert mean == pytest.approx(2 / 3 if episode[0].index % 3 == 0 else -1 / 3), "over the whole episode"


async def test_a_turns_credit_falls_to_the_segment_that_holds_it(thinker):
    args, groups = await groups_of(thinker, tau2_credit="turn", tau2_shaping="none")
    flat = [s for group in groups for episode in group for s in episode]
    rewards.reward_post_process(args, flat)
    credited = 0
    for s in flat:
        per_token = getattr(s, advantages.FIELD)
        by_turn = [{per_token[n] for n in range(start, end)} for start, end in info(s)["turn_spans"]]
        assert all(len(values) == 1 for values in by_turn)
        gains = info(s)["turn_gains"]
        ranked = sorted(zip(gains, [values.pop() for values in by_turn]))
        assert [a for _, a in ranked] == sorted(a for _, a in ranked), "who gained more gets more"
        credited += max(gains, default=0.0) > 0
    assert credited


async def test_filters_source_and_log_count_episodes(thinker, monkeypatch):
    args, groups = await groups_of(thinker)
    source = data_source.Tau2DataSource(args)
    groups = source.get_samples(2)
    args, groups_played, _, harness = await played(thinker, [s for group in groups for s in group])
    nested = [groups_played[:3], groups_played[3:]]
    flat = [s for group in nested for episode in group for s in episode]
    assert len(flat) > 6 and fan_out.first_samples(flat) == [s for group in groups for s in group]
    for n, episode in enumerate(groups_played):
        for s in episode:
            s.reward = float(n % 3 == 0)
    assert filters.dynamic_sampling_filter(args, nested[0]).keep
    filters.process_all_samples(args, nested, source.get_samples)
    assert source.buffer == [], "nothing was spoiled"
    figures = log_hooks.episode_metrics(flat, "x") | log_hooks.group_metrics(harness.config, flat, "x")
    assert figures["x/reward"] == pytest.approx(1 / 3) and figures["x/segments"] == len(flat) / 6
    assert 0 < figures["x/prefix_kept"] < 1 and figures["x/turns"] < figures["x/trained_tokens"]
    source.end_rollout(flat, None)
    assert sum(source.metadata["terminations"].values()) == 6 and not source.groups.out
    source.add_samples([nested[0]])  # as slime's fully-async worker hands back a group with finished episodes
    (again,) = source.get_samples(1)
    assert [s.index for s in again] == [s.index for s in groups[0]] and all(
        s.status is Sample.Status.PENDING and not s.tokens for s in again
    )


async def test_evaluation_gets_one_sample_and_what_fails_is_a_list_too(thinker):
    _, (seen,), _, _ = await played(thinker, [sample("orders_0")], evaluation=True)
    assert isinstance(seen, Sample) and seen.reward == 1.0 and info(seen)["segment"] == len(info(seen)["segments"]) - 1
    _, (lost, ended), _, _ = await played(thinker, [sample("no such task"), sample("orders_0")])
    assert [s.remove_sample for s in lost] == [True] and not ended[0].remove_sample
    assert lost[0].rollout_id == lost[0].index


@pytest.mark.parametrize(
    "over, named",
    [
        ({"group_rm": True}, "--group-rm"),
        ({"log_passrate": True}, "--log-passrate"),
        ({"custom_reward_post_process_path": None}, "--custom-reward-post-process-path is absent"),
        ({"dynamic_sampling_filter_path": "slime.rollout.filter_hub.x.y"}, "--dynamic-sampling-filter-path slime"),
    ],
)
async def test_what_cannot_take_several_samples_is_refused_by_name(thinker, over, named):
    with pytest.raises(ConfigError, match=named):
        await played(thinker, [sample("orders_0")], **over)


def test_an_episodes_samples_look_like_one_where_slime_looks_so():
    first, second = sample("orders_0", index=5), sample("orders_0", index=5)
    first.status, first.response = Sample.Status.ABORTED, "said"
    both = fan_out.shaped([first, second])
    assert isinstance(both, list) and list(both) == [first, second] and both.index == 5 == second.rollout_id
    assert both.status is Sample.Status.ABORTED and both.response == "said" and both.metadata is first.metadata


async def test_the_trainers_gradient_over_all_segments_is_the_models_own(thinker):
    """Each episode a mean over the tokens of all its segments, by a plain forward pass of the Hugging Face model."""
    import torch

    from slime_tau2.local.losses import LossOptions
    from slime_tau2.local.models import new_model
    from slime_tau2.local.trainer import Trainer, TrainOptions

    args, groups = await groups_of(thinker, tau2_shaping="none")
    flat = [s for group in groups for episode in group for s in episode]
    for s in flat:
        s.reward = float(s.index % 3 == 0)
    _, shares = rewards.reward_post_process(args, flat)

    class Kept(Trainer):
        def _optimizer_step(self):
            self.kept = [p.grad.clone() for p in self.model.parameters()]
            return 0.0

    model = new_model(len(thinker[0]), 4096, seed=3, hidden=32, layers=2)
    trainer = Kept(model, TrainOptions(loss=LossOptions(), max_tokens_per_gpu=3000))
    assert trainer.grpo_step(flat, shares)["trained_samples"] == len(flat) > 6
    model.zero_grad()
    loss = torch.zeros(())
    for episode in fan_out.episodes(flat):
        count = sum(sum(s.loss_mask) for s in episode)
        for s in episode:
            scores = model(torch.tensor([s.tokens])).logits[0, :-1].log_softmax(-1)
            own = scores.gather(1, torch.tensor(s.tokens[1:])[:, None])[-s.response_length :, 0]
            loss = loss - shares[flat.index(s)] * (own * torch.tensor(s.loss_mask)).sum() / count / 6
    loss.backward()
    for kept, p in zip(trainer.kept, model.parameters(), strict=True):
        assert torch.allclose(kept, p.grad, atol=1e-5)
