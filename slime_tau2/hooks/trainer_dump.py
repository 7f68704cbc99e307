"""`--rollout-data-postprocess-path slime_tau2.hooks.trainer_dump.keep_log_probs`: adds to the dump of a rollout what
the trainer says of the same tokens: its log-probs before the step, and the advantages that it trains on.

slime calls it in every trainer actor when the advantages are there. It has the log-probs by then where it scores the
rollout beforehand (several steps per rollout, `--get-mismatch-metrics`, GSPO, a KL penalty); in a single step it reuses
the step's own, and there are only the advantages. Of the ranks that hold the same tokens one writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.dumps.arrays import checksum, pack_floats, pack_ids, unpack_ids
from slime_tau2.dumps.format import FORMAT, SampleTokens, TrainerPart, TrainerSample
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import held_places
from slime_tau2.hooks.rollout_dump import dump_of

log = logging.getLogger(__name__)


def keep_log_probs(args: object, rollout_id: int, rollout_data: Mapping[str, Any]) -> None:
    """Write this rank's part of the rollout's dump, where there is one; changes nothing in `rollout_data`."""
    if not Tau2Config.from_args(args).dump or not rollout_data.get("sample_indices"):
        return
    rank = _rank()
    if rank % (option(args, "tensor_model_parallel_size", None) or 1):
        return  # the first tensor-parallel rank has the same numbers
    write(args, rollout_id, rank, [int(index) for index in rollout_data["sample_indices"]], rollout_data)


class Said:
    """What the local trainer says of each sample as it trains on it (`local.trainer.Scored`)."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.columns: dict[str, list[Any]] = {"tokens": [], "log_probs": [], "advantages": []}

    def take(self, sample: Any, log_probs: Any, advantages: Any) -> None:
        self.indices.append(sample.index or 0)
        self.columns["tokens"].append(sample.tokens)
        self.columns["log_probs"].append(log_probs)
        self.columns["advantages"].append(advantages)

    def write(self, args: object, rollout_id: int) -> None:
        """Add it to the dump of the rollout, where there is one."""
        if Tau2Config.from_args(args).dump:
            write(args, rollout_id, 0, self.indices, self.columns)


def write(args: object, rollout_id: int, rank: int, indices: Sequence[int], columns: Mapping[str, Any]) -> None:
    """Write what a trainer says of the samples of the dump that it has.

    Args:
        indices: of its samples.
        columns: `tokens` and, where they are known, `log_probs` and `advantages`: a sequence per sample, of all its
            ids, and of a number per response token or per one that this rank holds.
    """
    dump = dump_of(args)
    if dump is None:
        return
    try:
        samples = told(dump.rollout(rollout_id)["samples"], indices, columns)
        if samples:
            dump.write_trainer(TrainerPart(format=FORMAT, rollout=rollout_id, samples=samples), rank)
    except (ConfigError, OSError) as error:  # no folder that all nodes share, a full disk: no reason to end a training
        log.error("the trainer's part of the dump of rollout %d was not written: %s", rollout_id, error)


def told(wanted: Sequence[SampleTokens], indices: Sequence[int], columns: Mapping[str, Any]) -> list[TrainerSample]:
    """What a trainer says of those samples of a dump that are among its own."""
    by_tokens = {(s["sample"] or 0, s["crc"]): s for s in wanted}
    known = {sample for sample, _ in by_tokens}
    out = []
    for place, index in enumerate(indices):
        if index in known:
            tokens = by_tokens.get((index, checksum(_plain(columns["tokens"][place]))))
            if tokens is not None:
                out.append(_said(tokens, place, columns))
    return out


def _said(tokens: SampleTokens, place: int, columns: Mapping[str, Any]) -> TrainerSample:
    ids = _plain(columns["tokens"][place])
    response = len(unpack_ids(tokens["ids"]))
    own = {name: _plain(columns[name][place]) for name in ("log_probs", "advantages") if columns.get(name) is not None}
    whole = all(len(values) == response for values in own.values())
    held = range(response) if whole else held_places(len(ids), response)
    number = {p: n for n, p in enumerate(p for start, end in tokens["trained"] for p in range(start, end))}
    numbers = {
        name: pack_floats([value for p, value in zip(held, values, strict=True) if p in number])
        for name, values in own.items()
    }
    return TrainerSample(
        sample=tokens["sample"],
        crc=tokens["crc"],
        at=None if whole else pack_ids([number[p] for p in held if p in number]),
        log_probs=numbers.get("log_probs"),
        advantages=numbers.get("advantages"),
    )


def _plain(values: Any) -> Sequence[Any]:
    """A list of a tensor; of a list itself."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    return list(values)


def _rank() -> int:
    """This process's rank among the trainers; 0 where there is no group of them."""
    from torch import distributed

    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
