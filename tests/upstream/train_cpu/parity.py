"""What slime did, done again by plain torch: the loss and its gradient in float64 on Hugging Face's model, AdamW, and
where a rank's tokens lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TIS_CLIP = 2.0
"""slime's default of --tis-clip."""


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in sorted(directory.glob("*.safetensors")) for k, v in load_file(file).items()}


def unequal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names that are not in both, or not equal bit for bit."""
    same = {k for k in one.keys() & other.keys() if one[k].dtype == other[k].dtype and torch.equal(one[k], other[k])}
    return sorted((one.keys() | other.keys()) - same)


def load(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).double().eval()


def episode(sample: Any) -> Any:
    """What the samples of one episode share."""
    return ("alone", sample.index) if sample.rollout_id is None else sample.rollout_id


def log_probs(model: Any, sample: Any) -> torch.Tensor:
    """Of a sample's response tokens, [response_length]."""
    ids = torch.tensor(sample.tokens)
    scores = model(ids[None]).logits[0, :-1].log_softmax(-1)
    return scores.gather(1, ids[1:, None])[-sample.response_length :, 0]


@dataclass
class Step:
    """One optimizer step as it should have been; the differences are of the trained tokens."""

    grad_norm: float
    sampler_mean: float
    """Mean |log-prob of this model - of the policy server|."""
    scores: list[torch.Tensor]
    """Log-probs of each sample's response."""


class Adam:
    """AdamW in float64 with the options of the runs. Its moments go on from step to step, its weights are those that
    slime had.
    """

    def __init__(self, start: Path):
        self.model = load(start)
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-8)

    def step(self, start: Path, samples: list[Any]) -> Step:
        """slime's loss of a step that is exactly on policy (one step a rollout): -ratio * advantage * importance
        weight, the mean of each episode's trained tokens, the mean over episodes. An episode is one sample, or those
        that share a `rollout_id`.
        """
        masks = [torch.tensor(s.loss_mask).double() * (not s.remove_sample) for s in samples]
        trained: dict[Any, float] = {}
        for sample, mask in zip(samples, masks):
            trained[episode(sample)] = trained.get(episode(sample), 0.0) + float(mask.sum())
        with torch.no_grad():
            for own, saved in zip(self.model.parameters(), load(start).parameters(), strict=True):
                own.copy_(saved)
        self.before = [p.detach().clone() for p in self.model.parameters()]
        self.optimizer.zero_grad()
        apart, scores = [], []
        for sample, mask in zip(samples, masks):
            own = log_probs(self.model, sample)
            sampled = torch.tensor(sample.rollout_log_probs).double()
            weight = (own.detach() - sampled).exp().clamp(0, TIS_CLIP)
            loss = -((own - own.detach()).exp() * sample.advantages.double() * weight * mask).sum()
            (loss / max(trained[episode(sample)], 1.0) / len(trained)).backward()
            apart.append((own.detach() - sampled)[mask.bool()].abs())
            scores.append(own.detach())
        norm = torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), 1.0)
        self.optimizer.step()
        return Step(float(norm), float(torch.cat(apart).mean()), scores)

    def apart(self, after: Path) -> float:
        """|slime's weights after the step - these| / |the update|."""
        there = [p.detach() for p in load(after).parameters()]
        here = [p.detach() for p in self.model.parameters()]
        total = lambda ones, others: sum(float((a - b).pow(2).sum()) for a, b in zip(ones, others, strict=True)) ** 0.5  # noqa: E731
        return total(there, here) / total(here, self.before)


def held(total: int, response: int, rank: int, ranks: int) -> list[int]:
    """Which response tokens a context-parallel rank scores, in its order.

    A sequence is padded to 2 * ranks chunks; a rank holds the rank-th from the front and from the back. The logits at
    position p score the token at p + 1.
    """
    chunk = -(-total // (2 * ranks))
    chunks = (rank, 2 * ranks - 1 - rank) if ranks > 1 else (0, 1)
    positions = [p for c in chunks for p in range(c * chunk, (c + 1) * chunk) if p < total - 1]
    return [p + 1 - (total - response) for p in positions if p + 1 >= total - response]
