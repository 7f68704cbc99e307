"""The local trainer's formulas beside slime's own functions. Needs slime's source tree (and Megatron-LM's for its loss
module).
"""

from types import SimpleNamespace

import pytest
import torch
from slime_harness import needs_slime

from slime_tau2.hooks.reducers import DR_GRPO_TOKENS, dr_grpo
from slime_tau2.local.losses import LossOptions, approx_kl, opsm_mask, policy_loss, tis_weights

pytestmark = [pytest.mark.upstream, needs_slime]

ARGS = SimpleNamespace(tis_clip=1.4, tis_clip_low=0.6, opsm_delta=0.05, eps_clip=0.2, eps_clip_high=0.28)


@pytest.fixture(scope="module")
def ppo():
    from slime.utils import ppo_utils

    return ppo_utils


def drawn(seed=0, lengths=(7, 3, 11)):
    """Log-probs of trainer, of the old policy and of the sampler, advantages and masks, one tensor a sample."""
    generator = torch.Generator().manual_seed(seed)
    new = [-torch.rand(n, generator=generator) * 3 for n in lengths]
    old = [x + torch.randn(len(x), generator=generator) * 0.2 for x in new]
    sampler = [x + torch.randn(len(x), generator=generator) * 0.3 for x in old]
    gains = [torch.full_like(x, g) for x, g in zip(new, (0.7, -0.4, -1.0))]
    masks = [(torch.rand(len(x), generator=generator) < 0.7).float() for x in new]
    return new, old, sampler, gains, masks


@pytest.mark.parametrize("dual", [None, 1.5])
def test_the_clipped_loss(ppo, dual):
    new, old, _, gains, masks = drawn()
    options = LossOptions(eps_clip=0.2, eps_clip_high=0.28, eps_clip_c=dual)
    for n, o, g, m in zip(new, old, gains, masks):
        loss, clipped = policy_loss(n, o, g, m, options)
        theirs, their_clipped = ppo.compute_policy_loss(o - n, g, 0.2, 0.28, dual)
        assert torch.allclose(loss, theirs, atol=1e-6) and torch.equal(clipped, their_clipped.float())


def test_gspo(ppo):
    new, old, _, gains, masks = drawn(1)
    theirs = ppo.compute_gspo_kl(full_log_probs=new, full_old_log_probs=old, local_log_probs=new, loss_masks=masks)
    for n, o, g, m, kl in zip(new, old, gains, masks, theirs.split([len(x) for x in new])):
        loss, _ = policy_loss(n, o, g, m, LossOptions(advantage_estimator="gspo", eps_clip_high=0.28))
        assert torch.allclose(loss, ppo.compute_policy_loss(kl, g, 0.2, 0.28, None)[0], atol=1e-6)


def test_opsm(ppo):
    new, old, _, gains, masks = drawn(2)
    mask, _ = ppo.compute_opsm_mask(
        args=ARGS, full_log_probs=new, full_old_log_probs=old, advantages=gains, loss_masks=masks
    )
    ours = torch.cat([opsm_mask(n, o, g, m, ARGS.opsm_delta) for n, o, g, m in zip(new, old, gains, masks)])
    assert torch.equal(ours, mask)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "low_var_kl"])
def test_kl(ppo, kind):
    new, old, *_ = drawn(3)
    for n, o in zip(new, old):
        assert torch.allclose(approx_kl(n, o, kind), ppo.compute_approx_kl(n, o, kind), atol=1e-6)


@pytest.mark.parametrize("function", ["vanilla_tis_function", "icepop_function"])
def test_importance_weights(function):
    loss = pytest.importorskip(
        "slime.backends.megatron_utils.loss", reason="Megatron-LM is not installed: put its tree on PYTHONPATH"
    )
    _, old, sampler, gains, masks = drawn(4)
    lengths = [len(x) for x in old]
    theirs, their_masks, _ = getattr(loss, function)(
        ARGS,
        pg_loss=torch.cat(gains),
        train_log_probs=old,
        rollout_log_probs=sampler,
        loss_masks=masks,
        total_lengths=lengths,
        response_lengths=lengths,
    )
    options = LossOptions(custom_tis_function=function, tis_clip=ARGS.tis_clip, tis_clip_low=ARGS.tis_clip_low)
    ours = torch.cat([g * tis_weights(o, s, options) for g, o, s in zip(gains, old, sampler)])
    assert torch.allclose(ours, theirs, atol=1e-6) and all(torch.equal(a, b) for a, b in zip(masks, their_masks))


def test_dr_grpos_reducer_has_the_shape_that_slime_calls():
    _, _, _, gains, masks = drawn(5)
    lengths = [len(x) for x in gains]
    total = dr_grpo(total_lengths=lengths, response_lengths=lengths, loss_masks=masks, calculate_per_token_loss=False)(
        torch.cat(gains)
    )
    assert float(total) == pytest.approx(sum(float((g * m).sum()) for g, m in zip(gains, masks)) / DR_GRPO_TOKENS)
