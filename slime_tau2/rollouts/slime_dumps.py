"""slime's own dumps, `--save-debug-rollout-data` and `--save-debug-train-data`, in the format of ours.

They are pickles of torch's. They are read with `weights_only`, which knows tensors and plain values and runs nothing: a
file with anything else in it (numpy's arrays of a MoE's experts, say) is refused. They know the samples that trained
and nothing else of a rollout: no group that a filter dropped, no reason why a task came next, no shaped reward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.dumps.format import FORMAT, GroupRow, RolloutPart, SampleTokens, ServedRow, TrainerPart
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.rollout_dump import Tokens
from slime_tau2.hooks.rollout_rows import sample_row, segments
from slime_tau2.hooks.samples import task_name
from slime_tau2.hooks.stand_ins import Sample
from slime_tau2.hooks.trainer_dump import told
from slime_tau2.tokenizer import Tokenizer

_COLUMNS = ("tokens", "loss_masks", "log_probs", "advantages")
NAMES = ("*.pt", "rollout_data/*.pt", "rollouts/*.pt", "debug/*.pt")
_ROLLOUT, _TRAINER = re.compile(r"(\d+)\.pt"), re.compile(r"(\d+)_\d+\.pt")


@dataclass(frozen=True)
class SlimeDump:
    """The dumps in one folder: `12.pt` is a rollout, `12_0.pt` beside it or in `train_data` what a trainer said."""

    directory: Path
    tokenizer: Tokenizer

    @staticmethod
    def folder(directory: Path) -> Path | None:
        """The folder of a run's directory that holds such dumps; None without any."""
        for name in NAMES:
            for file in directory.glob(name):
                if _ROLLOUT.fullmatch(file.name):
                    return file.parent
        return None

    def written(self) -> list[int]:
        names = [_ROLLOUT.fullmatch(file.name) for file in self.directory.glob("*.pt")]
        return sorted(int(name[1]) for name in names if name is not None)

    def stamp(self, rollout: int) -> tuple[tuple[str, int, int], ...]:
        return files.stamp([self.directory / f"{rollout}.pt", *self._of_trainers(rollout)])

    def _of_trainers(self, rollout: int) -> list[Path]:
        places = (self.directory, self.directory / "train_data", self.directory.parent / "train_data")
        found = [file for place in places for file in place.glob(f"{rollout}_*.pt")]
        return sorted(file for file in found if _TRAINER.fullmatch(file.name))

    def rollout(self, rollout: int) -> RolloutPart:
        """Raises ConfigError: the file is broken, or holds what is none of slime's samples."""
        path = self.directory / f"{rollout}.pt"
        samples = [_sample(value, path) for value in _samples(_load(path), path)]
        by_group: dict[int | None, list[Sample]] = {}
        for sample in samples:
            by_group.setdefault(sample.group_index, []).append(sample)
        tokens = Tokens()
        taken = [tokens.add([(sample, None) for sample in group]) for group in by_group.values()]
        return RolloutPart(
            format=FORMAT,
            writer="slime",
            rollout=rollout,
            written=path.stat().st_mtime,
            seconds=0.0,
            options={},
            figures={},
            waiting=0,
            groups=[_group_row(group) for group in by_group.values()],
            prompts=tokens.packed_prompts(),
            pieces=tokens.pieces(self.tokenizer),
            samples=tokens.samples,
            left_out=taken.count(False),
        )

    def trainers(self, rollout: int) -> list[TrainerPart]:
        """Raises ConfigError: a file is broken, or is none of a trainer's."""
        paths = self._of_trainers(rollout)
        if not paths:
            return []
        wanted = self.rollout(rollout)["samples"]
        return [_trainer_part(_load(path), path, rollout, wanted) for path in paths]


def _load(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise files.unreadable(path, error) from error
    except Exception as error:  # torch's many ways to say that it is none of its files, or holds what it does not run
        raise ConfigError(
            f"{path}: no dump of slime's that can be read without running what is in it ({files.one_line(error)})"
        ) from error


def _samples(value: Any, path: Path) -> list[Any]:
    samples = value.get("samples") if isinstance(value, dict) else None
    if not isinstance(samples, list) or not samples:
        raise ConfigError(f"{path}: no samples in it; {files.ANOTHER}")
    return samples


def _sample(value: Any, path: Path) -> Sample:
    known = {field.name for field in fields(Sample)} - {"status", "spec_info", "prefix_cache_info"}
    try:
        sample = Sample(**{name: value[name] for name in known & value.keys()})
        sample.status = Sample.Status(value["status"])
        lengths = {len(sample.loss_mask or ()), len(sample.rollout_log_probs or ()), sample.response_length}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: no sample of slime's ({type(error).__name__}: {error}); {files.ANOTHER}") from error
    if len(lengths) != 1 or "tau2" not in sample.metadata:
        raise ConfigError(f"{path}: sample {sample.index} is none that slime_tau2's generate filled")
    return sample


def _group_row(group: list[Sample]) -> GroupRow:
    domain, _, task = task_name(group[0]).partition("/")
    return GroupRow(
        group=group[0].group_index,
        domain=domain,
        task=task,
        served=ServedRow(by=""),
        verdict="",
        fate="trained",
        why="",
        samples=[sample_row(s, None, segment=n) for s, n in zip(group, segments(group))],
    )


def _trainer_part(value: Any, path: Path, rollout: int, wanted: Sequence[SampleTokens]) -> TrainerPart:
    if not isinstance(value, dict) or not ("samples" in value or "rollout_data" in value):
        raise ConfigError(f"{path}: no dump of a trainer of slime's; {files.ANOTHER}")
    columns = value["rollout_data"] if "rollout_data" in value else _columns(value["samples"])
    whole = [place for place in range(len(columns.get("sample_indices") or ())) if _whole(columns, place)]
    kept = {name: [columns[name][place] for place in whole] for name in _COLUMNS if columns.get(name) is not None}
    indices = [int(columns["sample_indices"][place]) for place in whole]
    return TrainerPart(format=FORMAT, rollout=rollout, samples=told(wanted, indices, kept))


def _columns(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """{field: one value per sample} of a list of samples, of the fields that all of them have."""
    columns = {name: [s[name] for s in samples] for name in _COLUMNS if all(name in s for s in samples)}
    return {**columns, "sample_indices": [s.get("sample_index", -1) for s in samples]}


def _whole(columns: Mapping[str, Any], place: int) -> bool:
    """Whether the numbers are of all response tokens: v0.3.1 dumps a context-parallel rank's share, as it is."""
    length = len(columns["loss_masks"][place]) if "loss_masks" in columns else None
    numbers = [columns[name][place] for name in ("log_probs", "advantages") if columns.get(name) is not None]
    return length is None or all(len(values) == length for values in numbers)
