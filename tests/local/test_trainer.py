import copy
import random

import pytest
import torch

from slime_tau2.data.traces import TokenRow
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.reducers import DR_GRPO_TOKENS, dr_grpo
from slime_tau2.local.batches import length_bucketed, micro_batches, score_tokens
from slime_tau2.local.losses import LossOptions, approx_kl, opsm_mask, policy_loss, reduce, tis_weights
from slime_tau2.local.trainer import Trainer, TrainOptions


def rows(count=6, seed=0):
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        tokens = [rng.randrange(1536) for _ in range(rng.randrange(12, 40))]
        mask = [rng.randrange(2) for _ in range(rng.randrange(3, 9))]
        mask[0] = 1
        out.append(TokenRow(tokens, mask, [0.0] * len(mask)))
    return out


def samples(model, count=6, seed=0):
    out = []
    for n, r in enumerate(rows(count, seed)):
        with torch.no_grad():
            log_probs = score_tokens(model, [r]).log_probs[0].tolist()
        out.append(
            Sample(
                index=n,
                tokens=r.tokens,
                response_length=len(r.loss_mask),
                loss_mask=r.loss_mask,
                rollout_log_probs=log_probs,
                reward=0.0,
            )
        )
    return out


@pytest.fixture
def model(tiny_model):
    return copy.deepcopy(tiny_model)


def masked_log_prob(model, s):
    with torch.no_grad():
        return float((score_tokens(model, [s]).log_probs[0] * torch.tensor(s.loss_mask)).sum())


def test_scores_equal_a_plain_forward_pass_whatever_the_batch(model):
    batch = rows()
    together = score_tokens(model, batch, temperature=0.7, entropy=True)
    for n, r in enumerate(batch):
        logits = model(input_ids=torch.tensor([r.tokens])).logits[0].float() / 0.7
        distribution = torch.log_softmax(logits, -1)
        start = len(r.tokens) - len(r.loss_mask)
        places = [(start + n, m) for n, m in enumerate(r.loss_mask)]
        expected = [distribution[t - 1, r.tokens[t]].item() * m for t, m in places]
        assert together.log_probs[n].tolist() == pytest.approx(expected, abs=1e-5)
        entropy = [-(distribution[t - 1].exp() * distribution[t - 1]).sum().item() * m for t, m in places]
        assert together.entropy[n].tolist() == pytest.approx(entropy, abs=1e-4)


def test_a_shared_prefix_changes_neither_scores_nor_gradients(tiny_model):
    head = [random.Random(9).randrange(1536) for _ in range(40)]
    batch = [TokenRow(head + r.tokens, r.loss_mask, r.log_probs) for r in rows()]
    together, alone = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    a = score_tokens(together, batch).log_probs
    b = [score_tokens(alone, [r]).log_probs[0] for r in batch]
    assert torch.cat(a).tolist() == pytest.approx(torch.cat(b).tolist(), abs=1e-5)
    torch.cat(a).sum().backward()
    torch.cat(b).sum().backward()
    for (name, p), q in zip(together.named_parameters(), alone.parameters()):
        assert torch.allclose(p.grad, q.grad, atol=1e-4), name


def test_micro_batches_cover_everything_within_bounds():
    batch = rows(30)
    parts = list(micro_batches(batch, 100))
    assert sorted(n for p in parts for n in p) == list(range(30))
    assert all(len(p) == 1 or len(p) * max(len(batch[n].tokens) for n in p) <= 100 for p in parts)
    epoch = list(length_bucketed(30, [len(r.tokens) for r in batch], 4, random.Random(0)))
    assert sorted(n for p in epoch for n in p) == list(range(30)) and max(map(len, epoch)) == 4


def test_policy_loss_by_hand():
    new, old = torch.log(torch.tensor([0.5, 0.5, 0.1, 0.1])), torch.log(torch.tensor([0.25, 0.25, 0.2, 0.2]))
    gain = torch.tensor([1.0, -1.0, 1.0, -1.0])
    mask = torch.ones(4)
    loss, clipped = policy_loss(new, old, gain, mask, LossOptions(eps_clip=0.2, eps_clip_high=0.3))
    assert loss.tolist() == pytest.approx([-1.3, 2.0, -0.5, 0.8]) and clipped.tolist() == [1.0, 0.0, 0.0, 1.0]
    dual, _ = policy_loss(new, old, gain, mask, LossOptions(eps_clip_c=1.5))
    assert dual.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8])
    same, _ = policy_loss(new, old, gain, mask, LossOptions())
    assert same[0] == pytest.approx(-1.2), "eps_clip_high defaults to eps_clip"


def test_tis_and_kl_by_hand():
    train, rollout = torch.log(torch.tensor([0.9, 0.1])), torch.log(torch.tensor([0.1, 0.2]))
    assert tis_weights(train, rollout, LossOptions(tis_clip=2.0, tis_clip_low=0.6)).tolist() == pytest.approx(
        [2.0, 0.6]
    )
    difference = (train - rollout).tolist()
    assert approx_kl(train, rollout, "k1").tolist() == pytest.approx(difference)
    assert approx_kl(train, rollout, "k2").tolist() == pytest.approx([d * d / 2 for d in difference])
    assert approx_kl(train, rollout, "low_var_kl").tolist() == pytest.approx(
        [1 / 9 - 1 + difference[0], 2 - 1 + difference[1]], rel=1e-5
    )
    icepop = LossOptions(custom_tis_function="icepop_function", tis_clip=2.0, tis_clip_low=0.4)
    assert tis_weights(train, rollout, icepop).tolist() == pytest.approx([0.0, 0.5]), (
        "outside: nothing, inside: the ratio itself"
    )


def test_gspo_has_one_ratio_a_sample_and_trains_every_token_of_it():
    new = torch.log(torch.tensor([0.4, 0.2, 0.9])).requires_grad_()
    old, mask = torch.log(torch.tensor([0.2, 0.4, 0.1])), torch.tensor([1.0, 1.0, 0.0])
    loss, _ = policy_loss(new, old, torch.ones(3), mask, LossOptions(advantage_estimator="gspo"))
    assert loss.tolist() == pytest.approx([-1.0] * 3), "the geometric mean of 2 and 1/2; the masked token is not in it"
    (loss * mask).sum().backward()
    assert new.grad.tolist() == pytest.approx([-1.0, -1.0, 0.0])


def test_opsm_drops_what_the_policy_has_left_and_only_where_it_would_be_pushed_further():
    old, mask = torch.tensor([-0.1, -0.1]), torch.ones(2)
    left, near = torch.tensor([-3.0, -0.1]), torch.tensor([-0.1, -0.1])
    assert opsm_mask(left, old, torch.tensor([-1.0, 1.0]), mask, 0.1).tolist() == [0.0, 1.0]
    assert opsm_mask(near, old, torch.tensor([-1.0, 1.0]), mask, 0.1).tolist() == [1.0, 1.0]


def test_dr_grpo_divides_by_a_constant_and_refuses_slices():
    lengths, masks = [3, 1], [torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0])]
    assert dr_grpo(lengths, lengths, masks)(torch.tensor([1.0, 2.0, 9.0, 4.0])) == pytest.approx(7.0 / DR_GRPO_TOKENS)
    with pytest.raises(ValueError, match=r"3 of 4 tokens.*context-parallel-size"):
        dr_grpo(lengths, lengths, masks)(torch.ones(3))
    with pytest.raises(ValueError, match="drop one of them"):
        dr_grpo(lengths, lengths, masks, calculate_per_token_loss=True)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="kl_loss_type = 'k9'; there are k1"):
        LossOptions(kl_loss_type="k9")
    with pytest.raises(ConfigError, match="two divisors"):
        LossOptions(dr_grpo=True, calculate_per_token_loss=True)
    with pytest.raises(ConfigError, match="--set grpo_loss: unknown option epsclip"):
        LossOptions.of({"epsclip": 0.1}, "--set grpo_loss")
    assert LossOptions.of({"use_tis": False}, "x") == LossOptions(eps_clip_high=0.28)


def test_reductions_by_hand():
    values, masks = (
        [torch.tensor([1.0, 2.0, 9.0]), torch.tensor([4.0])],
        [torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0])],
    )
    assert reduce(values, masks, 2, per_token=False) == pytest.approx((1.5 + 4.0) / 2)
    assert reduce(values, masks, 3, per_token=True) == pytest.approx(7.0 / 3)


@pytest.mark.parametrize(
    "options",
    [
        LossOptions(),
        LossOptions(use_tis=True, calculate_per_token_loss=True),
        LossOptions(entropy_coef=0.001),
        LossOptions(advantage_estimator="gspo", use_opsm=True),
        LossOptions(dr_grpo=True),
        LossOptions(use_tis=True, custom_tis_function="icepop_function"),
    ],
)
def test_advantages_push_log_probs_their_way(model, options):
    trainer = Trainer(model, TrainOptions(lr=2e-3, loss=options))
    batch = samples(model)
    gains = [1.0, -1.0, 1.0, -1.0, 0.0, 1.0]
    batch[5].remove_sample = True
    before = [masked_log_prob(model, s) for s in batch]
    report = trainer.grpo_step(batch, gains)
    after = [masked_log_prob(model, s) for s in batch]
    assert all((b - a) * g > 0 for a, b, g in zip(before, after, gains[:4]))
    assert (
        report["trained_samples"] == 5
        and report["trained_tokens"] == sum(sum(s.loss_mask) for s in batch[:5])
        and report["mismatch"] < 1e-5
        and abs(report["mismatch_kl"]) < 1e-6
        and report["clip_fraction"] == 0.0
    )


def test_zero_advantages_and_masked_batches_change_nothing(model):
    trainer, batch = Trainer(model, TrainOptions(lr=1e-2, weight_decay=0.0)), samples(model)
    before = copy.deepcopy(model.state_dict())
    trainer.grpo_step(batch, [0.0] * 6)
    for s in batch:
        s.remove_sample = True
    assert trainer.grpo_step(batch, [1.0] * 6)["trained_samples"] == 0
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_micro_batching_does_not_change_the_step(tiny_model):
    results = []
    for limit in (10_000, 64):
        trainer = Trainer(
            copy.deepcopy(tiny_model),
            TrainOptions(lr=1e-2, max_tokens_per_gpu=limit, loss=LossOptions(entropy_coef=0.01)),
        )
        report = trainer.grpo_step(samples(trainer.model), [1.0, -0.5, 0.3, 0.0, 1.0, -1.0])
        results.append((report["loss"], report["grad_norm"]))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_figures_are_means_over_the_steps_that_were_taken(tiny_model):
    """Three steps are asked for, and one sample is not enough for them."""
    reports = [
        Trainer(m, TrainOptions(num_steps_per_rollout=steps)).grpo_step(samples(m, count=1), [1.0])
        for steps in (1, 3)
        for m in [copy.deepcopy(tiny_model)]
    ]
    assert reports[0]["entropy"] > 0 and reports[0] == pytest.approx(reports[1], abs=1e-6)


def test_kl_needs_a_reference_and_pulls_back(model):
    with pytest.raises(ValueError, match="needs a reference model"):
        Trainer(model, TrainOptions(loss=LossOptions(use_kl_loss=True)))
    options = TrainOptions(lr=2e-3, num_steps_per_rollout=3, loss=LossOptions(use_kl_loss=True, kl_loss_coef=0.1))
    trainer = Trainer(model, options, ref=copy.deepcopy(model))
    batch = samples(model)
    assert trainer.grpo_step(batch, [1.0] * 6)["kl"] >= 0.0
    assert trainer.grpo_step(batch, [1.0] * 6)["kl"] > 0.0 and trainer.step_count == 6


def test_sft_learns_its_rows_and_trains_only_the_mask(model):
    trainer, batch = Trainer(model, TrainOptions(lr=5e-3)), rows(4)
    losses = [trainer.sft_step(batch)["loss"] for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_schedules():
    trainer = Trainer(
        torch.nn.Linear(1, 1),
        TrainOptions(lr=1.0, min_lr=0.1, lr_warmup_iters=4, lr_decay_style="cosine", train_iters=24),
    )
    curve = []
    for trainer.step_count in range(30):
        curve.append(trainer.learning_rate())
    assert (
        curve[:4] == [0.25, 0.5, 0.75, 1.0]
        and curve[4] == 1.0
        and curve[14] == pytest.approx(0.55)
        and curve[24:] == [pytest.approx(0.1)] * 6
    )


class Kept(Trainer):
    """Keeps each step's gradient, and takes no step."""

    def _optimizer_step(self):
        self.kept = [*getattr(self, "kept", []), [p.grad.clone() for p in self.model.parameters()]]
        self.optimizer.zero_grad()
        return 0.0


@pytest.mark.parametrize("options", [{}, {"calculate_per_token_loss": True}, {"dr_grpo": True}, {"entropy_coef": 0.1}])
@pytest.mark.parametrize("max_tokens", [1, 8192])
def test_into_how_many_samples_an_episode_is_cut_changes_no_gradient(model, options, max_tokens):
    """The same trained tokens as one sample, and as three that share a rollout id."""
    whole = samples(model, 4)
    cut = []
    for s in whole:
        trained = [n for n, bit in enumerate(s.loss_mask) if bit]
        parts = [trained[0::3], trained[1::3], trained[2::3]] if s.index % 2 else [trained]
        for part in filter(None, parts):
            piece = copy.copy(s)
            piece.loss_mask = [int(n in part) for n in range(len(s.loss_mask))]
            piece.rollout_id = s.index
            cut.append(piece)
    assert len(cut) > len(whole)
    advantages = {s.index: a for s, a in zip(whole, (0.7, -0.4, 0.2, -0.5))}
    train = TrainOptions(loss=LossOptions(**options), max_tokens_per_gpu=max_tokens, num_steps_per_rollout=2)
    gradients = []
    for batch in (whole, cut):
        trainer = Kept(copy.deepcopy(model), train)
        trainer.grpo_step(batch, [advantages[s.index] for s in batch])
        gradients.append(trainer.kept)
    assert len(gradients[0]) == len(gradients[1]) == 2, "no episode is torn apart between steps"
    for a, b in zip(*gradients):
        for p, q in zip(a, b):
            assert torch.allclose(p, q, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_who_asks_hears_each_samples_log_probs_before_the_first_step(model, steps):
    """Of samples that train alone, with the advantages that they train on."""
    batch = samples(model)
    batch[2].remove_sample = True
    for s in batch:
        s.rollout_log_probs = [p - 0.5 for p in s.rollout_log_probs]  # another sampler's
    batch[3].teacher_log_probs = [0.25] * batch[3].response_length
    heard = {}
    trainer = Trainer(model, TrainOptions(lr=1e-2, num_steps_per_rollout=steps))
    wanted = [score_tokens(model, [s]).log_probs[0].tolist() for s in batch]
    trainer.grpo_step(
        batch, [0.5] * len(batch), lambda s, log_probs, gains: heard.update({s.index: (log_probs, gains)})
    )
    assert sorted(heard) == [0, 1, 3, 4, 5]
    for index, (log_probs, gains) in heard.items():
        assert not log_probs.requires_grad
        assert log_probs.tolist() == pytest.approx(wanted[index], abs=1e-5)
        assert gains.tolist() == [0.25 if index == 3 else 0.5] * batch[index].response_length
