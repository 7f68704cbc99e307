"""The only importer of slime: its Sample, GenerateState, filter output and logging where it is installed, else
`stand_ins`.

Type checkers always see the stand-ins, which have the fields that the hooks use.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from slime_tau2.hooks.arguments import option

log = logging.getLogger(__name__)

_RUNS_UNDER_SLIME = "slime" in sys.modules

if TYPE_CHECKING:
    from slime_tau2.hooks.stand_ins import DynamicFilterOutput, GenerateState, Sample

    HAS_SLIME: bool
else:
    try:
        from slime.rollout.filter_hub.base_types import DynamicFilterOutput
        from slime.rollout.sglang_rollout import GenerateState
        from slime.utils.types import Sample

        HAS_SLIME = True
    except ImportError as error:
        if _RUNS_UNDER_SLIME:
            raise  # stand-ins would train on samples that are not slime's
        if importlib.util.find_spec("slime") is not None:
            log.warning("slime is installed and cannot be imported, so stand-ins take its place: %s", error)
        HAS_SLIME = False

        from slime_tau2.hooks.stand_ins import DynamicFilterOutput, GenerateState, Sample

__all__ = [
    "HAS_SLIME",
    "DynamicFilterOutput",
    "GenerateState",
    "Sample",
    "held_places",
    "log_metrics",
    "log_table",
    "restart",
    "throws_groups_away",
]

_IDENTITY = {  # what a sample is, whatever its episode
    "group_index",
    "index",
    "rollout_id",
    "prompt",
    "label",
    "metadata",
    "generate_function_path",
    "custom_rm_path",
    "train_metadata",
    "session_id",
    "multimodal_inputs",
    "multimodal_train_inputs",
    "multimodal_train_input_id",
    "apply_chat_template_kwargs",
}


def restart(sample: Sample) -> None:
    """Clear what an earlier try left, whatever fields this slime has; it stays the same sample of the same task."""
    for field in fields(sample):
        if field.name not in _IDENTITY:
            make = field.default_factory
            setattr(sample, field.name, field.default if make is MISSING else make())
    sample.metadata.pop("tau2", None)


def throws_groups_away() -> bool:
    """Whether a fully-async rollout discards the finished groups that its batch has no place for (slime v0.3.1; mended
    since).
    """
    if not HAS_SLIME:
        return False
    from slime.rollout.fully_async_rollout import AsyncRolloutWorker

    return "limit" not in inspect.signature(AsyncRolloutWorker.get_completed_groups).parameters


def held_places(total: int, response: int) -> list[int]:
    """Which response tokens of a sample this trainer's rank has numbers of, in its order: with context parallelism a
    share of them.

    Args:
        total, response: tokens of the sample, and of its response.
    """
    if not HAS_SLIME:
        return list(range(response))
    from slime.backends.megatron_utils import cp_utils

    places: list[int] = cp_utils.slice_log_prob_with_cp(list(range(response)), total, response)
    return places


def log_metrics(args: object, metrics: dict[str, float], step_key: str) -> None:
    """Send numbers to the trackers that `args` turns on: through slime where it is installed, else to this process's
    W&B run.

    A tracker that fails is reported, and never stops a rollout.
    """
    try:
        if HAS_SLIME:
            try:
                from slime.observability import logging_utils
            except ImportError:  # v0.3.1
                from slime.utils import logging_utils
            logging_utils.log(args, metrics, step_key=step_key)
        elif (run := _wandb_run(args)) is not None:
            run.log(metrics)
    except Exception:
        log.exception("metrics of step %s were not logged", metrics.get(step_key))


def log_table(args: object, name: str, columns: Sequence[str], rows: Callable[[], Iterable[Sequence[Any]]]) -> None:
    """Send a table to W&B where it is on; only then are `rows` made. TensorBoard has no tables."""
    try:
        run = _wandb_run(args)
        if run is not None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows()])})
    except Exception:
        log.exception("the table %s was not logged", name)


def _wandb_run(args: object) -> Any:
    if not option(args, "use_wandb", False):
        return None
    import wandb

    return wandb.run
