"""`--custom-generate-function-path slime_tau2.hooks.generate.generate`: one tau2 episode per sample.

What it may raise, and what comes back as a sample instead, is said once: docs/hooks.md, "What generate raises".
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench, seeds
from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.turnstile import turnstile
from slime_tau2.errors import ConfigError, LedgerError, UserError
from slime_tau2.hooks import current, eval_tasks, fan_out, replay
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.modes import end_run
from slime_tau2.hooks.player import EpisodePlayer, Job, TaskKey, Workers, player
from slime_tau2.hooks.samples import placeholder
from slime_tau2.terminations import Disposition, Termination
from slime_tau2.types import Episode

log = logging.getLogger(__name__)
SERVED_BY_SLIME = "slime:"
_NEEDED = ("hf_checkpoint", "sglang_router_ip", "sglang_router_port")
"""Arguments without which there is no model or no server to ask."""


@dataclass
class _Process:
    """What the episodes of one GenerateState share: slime has one per process, tests one per `args`."""

    here: EpisodePlayer
    workers: Workers | None
    """Who plays instead, where `tau2_workers` asks for them."""
    fans_out: bool
    """Whether an episode is several samples (`fan_out`)."""
    bug: LedgerError | None = None
    """The first that an episode met. slime does not look at the results of a rollout that it aborts, so the next call
    raises it again.
    """

    @property
    def harness(self) -> Harness:
        return self.here.harness

    async def play(self, job: Job, aborted: Callable[[], bool]) -> Episode:
        if self.workers is not None:
            return await self.workers.play(job)
        return await self.here.play(job, aborted)

    async def prepare(self, tasks: Sequence[TaskKey]) -> None:
        """Make what the episodes of some tasks begin with, between the work of those that are under way."""
        for task in tasks:
            await turnstile()
            if self.workers is not None:
                await self.workers.prepare(task)
            else:
                self.here.prepare(task)

    def take_faults(self) -> Counter[str]:
        return self.here.take_counts() + (self.workers.take_counts() if self.workers is not None else Counter())


_preparing: set[asyncio.Task[None]] = set()
"""A loop keeps no reference of its own to what runs in it."""
_processes: weakref.WeakKeyDictionary[GenerateState, _Process] = weakref.WeakKeyDictionary()


def harness(args: object) -> Harness:
    """The process's harness for these arguments; made, checked and its configuration printed once.

    Raises:
        UserError: the configuration or the installation will not do.
    """
    return _process(args).harness


def _process(args: object) -> _Process:
    state = GenerateState(args)
    if state not in _processes:
        config = resolved(args, Tau2Config.from_args(args))
        log.info("%s\nslime_tau2 options:\n%s", bench.VINTAGE, config.resolved())
        router = option(args, "sglang_router_ip", None), option(args, "sglang_router_port", None)
        url = "http://{}:{}".format(*router)
        here = player(config, state.tokenizer, url)
        fans_out = not here.harness.one_segment
        if fans_out:
            fan_out.check(args)
        process = _Process(here, Workers(here, url, _aborted(state)) if config.workers else None, fans_out)
        _processes[state] = process
    return _processes[state]


def _aborted(state: GenerateState) -> Callable[[], bool]:
    """Whether a rollout is aborted, asked without keeping its state alive: with that, the workers end."""
    alive = weakref.ref(state)
    return lambda: (now := alive()) is not None and now.aborted


def resolved(args: object, config: Tau2Config) -> Tau2Config:
    """The configuration with what only slime's arguments know.

    An episode's length is clamped to what the servers were told to allow. A user of `slime:NAME` is the model of that
    name in `--sglang-config`, whose router slime has started.

    Raises:
        ConfigError: slime serves no model of that name.
    """
    limits = [option(args, name, None) for name in ("sglang_context_length", "rollout_max_context_len")]
    lengths = [int(limit) for limit in limits if limit]
    update: dict[str, Any] = {"max_context_tokens": min([config.max_context_tokens, *lengths])}
    routers: dict[str, tuple[str, int]] = option(args, "sglang_model_routers", None) or {}
    for name in ("user_base_url", "eval_user_base_url"):
        url: str | None = getattr(config, name)
        if url is None or not url.startswith(SERVED_BY_SLIME):
            continue
        model = url.removeprefix(SERVED_BY_SLIME)
        if model not in routers:
            raise ConfigError(
                f"tau2_{name} = {url}: slime serves {', '.join(routers) or 'one model only'}; name it in "
                "--sglang-config"
            )
        host, port = routers[model]
        update[name] = f"http://{host}:{port}/v1"
    return config.model_copy(update=update)


def prefetch(samples: Iterable[Sample], args: object) -> None:
    """Prepare the tasks of samples that were served and wait for their turn: once this process plays, in its loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # whoever fetches without a loop plays later, and in another
    tasks = list(dict.fromkeys((s.metadata.get("domain", ""), s.metadata.get("task_id", "")) for s in samples))
    for process in [process for state, process in _processes.items() if state.args is args]:
        preparing = loop.create_task(process.prepare(tasks))
        _preparing.add(preparing)
        preparing.add_done_callback(_preparing.discard)


def take_faults() -> Counter[str]:
    """Failed requests of this process's clients since the last call, by client and kind."""
    faults: Counter[str] = Counter()
    for process in _processes.values():
        faults += process.take_faults()
    return faults


async def generate(
    args: object, sample: Sample, sampling_params: dict[str, Any], evaluation: bool = False
) -> Sample | list[Sample]:
    """Run the episode that `sample.metadata` names (`domain`, `task_id`), fill the sample, and return it; in training
    with a template that rewrites history, the samples of all of the episode's segments (`fan_out`).

    What it raises, and what comes back as a sample out of training: docs/hooks.md, "What generate raises".
    """
    absent = [name for name in _NEEDED if not hasattr(args, name)]
    if absent:  # as in slime's own tests of a hook's shape
        return _failed(args, sample, AttributeError(f"{type(args).__name__!r} object has no attribute {absent[0]!r}"))
    try:
        samples = await _generate(args, sample, sampling_params, evaluation)
        return fan_out.shaped(samples) if _process(args).fans_out and not evaluation else samples[0]
    except Exception as error:
        if evaluation:
            raise
        end_run(args, error)


async def _generate(args: object, sample: Sample, sampling_params: dict[str, Any], evaluation: bool) -> list[Sample]:
    """The episode's samples; raises whatever `generate` may raise."""
    process = _process(args)
    if process.bug is not None:
        raise process.bug
    try:
        world = process.harness.world(sample.metadata["domain"])
        task_id: str = sample.metadata["task_id"]
        world.task(task_id)
    except Exception as error:  # what this sample names is not there, which is no other sample's trouble
        return [_failed(args, sample, error)]
    if evaluation:
        _may_evaluate(process.harness.config, world.name, task_id)
    try:
        episode = await _play(
            args,
            sample,
            process=process,
            domain=world.name,
            task_id=task_id,
            sampling_params=sampling_params,
            evaluation=evaluation,
        )
        why = None if evaluation else replay.missing(args, episode.replies)
        if why is None:
            thinking = process.harness.config.train_thinking
            return fan_out.filled(args, sample, episode, thinking=thinking, evaluation=evaluation)
    except UserError:
        raise
    except LedgerError as error:
        process.bug = process.bug or error
        raise
    except Exception as error:
        return [_failed(args, sample, error)]
    if episode.termination is not Termination.ABORTED:
        raise ConfigError(why)
    placeholder(sample, why, Termination.ABORTED, args)
    return [sample]


def _may_evaluate(config: Tau2Config, domain: str, task_id: str) -> None:
    source = current.data_source()
    trained = source.tasks if source is not None else ()
    eval_tasks.check(config, [(domain, task_id)], trained, "evaluation during training")


async def _play(
    args: object,
    sample: Sample,
    *,
    process: _Process,
    domain: str,
    task_id: str,
    sampling_params: dict[str, Any],
    evaluation: bool,
) -> Episode:
    """Have the episode played, and again where infrastructure ended it; the last try counts."""
    config, state = process.harness.config, GenerateState(args)
    attempt = 0
    while True:
        seed = seeds.of_sample(config.seed, domain, task_id, sample.index, evaluation=evaluation, attempt=attempt)
        job = Job(
            domain=domain,
            task_id=task_id,
            seed=seed,
            sampling=sampling_params,
            sampling_seed=seed if config.seeded_sampling else None,
            routing_key=_routing_key(sample, attempt),
            evaluation=evaluation,
            routed_experts=replay.experts(args) and not evaluation,
            prefix=sample.metadata.get("prefix", ()),
        )
        episode = await process.play(job, lambda: state.aborted)
        ended = episode.termination  # what its workers died of has been tried by several
        again = ended.disposition is Disposition.RETRY and ended is not Termination.WORKER_FAILURE and not state.aborted
        if not again or attempt == config.episode_retries:
            return episode
        attempt += 1


def _failed(args: object, sample: Sample, error: Exception) -> Sample:
    log.error("generate failed for sample %s", sample.index, exc_info=error)
    placeholder(sample, f"{type(error).__name__}: {error}", args=args)
    return sample


def _routing_key(sample: Sample, attempt: int) -> str:
    """Keeps one conversation on one server; a conversation that starts anew is another one."""
    if sample.session_id and attempt == 0:
        return sample.session_id
    return f"tau2-{sample.index}-{uuid.uuid4().hex[:12]}"
