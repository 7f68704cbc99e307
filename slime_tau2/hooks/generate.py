"""`--custom-generate-function-path slime_tau2.hooks.generate.generate`: one tau2 episode a sample.

It mutates the Sample it is given. Whatever fails in an episode comes back as a well-formed sample with log-probs, out
of training and out of its group's mean; only a bad configuration is raised, at the first sample. The reward is tau2's;
partial scores and the termination go to `metadata["tau2"]`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import weakref
from collections import Counter
from typing import Any

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError, UserError
from slime_tau2.hooks import data_source, eval_tasks, replay
from slime_tau2.hooks.compat import GenerateState, Sample, restart
from slime_tau2.rewards.shaping import card_fractions
from slime_tau2.seeds import derive_seed
from slime_tau2.terminations import Disposition, Termination
from slime_tau2.types import Episode

log = logging.getLogger(__name__)
SERVED_BY_SLIME = "slime:"


_harnesses: weakref.WeakKeyDictionary[Any, Harness] = weakref.WeakKeyDictionary()


def harness(args: Any) -> Harness:
    """The process's harness for these args; resolves and prints the configuration once."""
    state = GenerateState(args)
    if state not in _harnesses:
        config = resolved(args, Tau2Config.from_args(args))
        log.info("%s\nslime_tau2 options:\n%s", bench.VINTAGE, config.resolved())
        url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}"
        policy = PolicyClient(
            url,
            concurrency=config.policy_concurrency,
            plain_http=config.plain_http,
            retries=config.policy_client_retries,
        )
        box = Harness(config, state.tokenizer, policy)
        box.check()
        _harnesses[state] = box
    return _harnesses[state]


def resolved(args: Any, config: Tau2Config) -> Tau2Config:
    """The configuration with what only slime's arguments know.

    An episode's length is clamped to what the servers were told to allow. A user of `slime:NAME` is the model of that
    name in `--sglang-config`, whose router slime has started.

    Raises:
        ConfigError: slime serves no model of that name.
    """
    limits = [getattr(args, name, None) for name in ("sglang_context_length", "rollout_max_context_len")]
    update: dict[str, Any] = {"max_context_tokens": min([config.max_context_tokens, *(int(x) for x in limits if x)])}
    for option in ("user_base_url", "eval_user_base_url"):
        value = getattr(config, option)
        if value is not None and value.startswith(SERVED_BY_SLIME):
            name, routers = value.removeprefix(SERVED_BY_SLIME), getattr(args, "sglang_model_routers", None) or {}
            if name not in routers:
                raise ConfigError(
                    f"tau2_{option} = {value}: slime serves {', '.join(routers) or 'one model only'}; name it in "
                    "--sglang-config"
                )
            host, port = routers[name]
            update[option] = f"http://{host}:{port}/v1"
    return config.model_copy(update=update)


def take_faults() -> Counter[str]:
    """Failed requests of this process's clients since the last call, by client and kind."""
    return sum((box.take_faults() for box in _harnesses.values()), Counter())


async def generate(args: Any, sample: Sample, sampling_params: dict[str, Any], evaluation: bool = False) -> Sample:
    """Run the episode that `sample.metadata` names (`domain`, `task_id`) and fill the sample.

    Raises:
        UserError: the options or the installation will not do, so that no sample would ever be right; an evaluation
            looks at test tasks or at what is trained on. What is wrong with one task is its sample's own detail.
    """
    try:
        state, box = GenerateState(args), harness(args)
    except UserError:
        raise
    except Exception as error:  # arguments that name no model or no server
        return _failed(args, sample, error)
    config, ref = box.config, sample.metadata
    if evaluation and {"domain", "task_id"} <= ref.keys():
        source = data_source.current()
        eval_tasks.check(
            config, [(ref["domain"], ref["task_id"])], source.tasks if source else (), "evaluation during training"
        )
    try:
        world = box.world(ref["domain"])
        for attempt in range(config.episode_retries + 1):
            seed = derive_seed(
                config.seed, ref["domain"], ref["task_id"], sample.index, "eval" if evaluation else "train", attempt
            )
            own_seed = seed if config.seeded_sampling else None
            key, experts = _routing_key(sample, attempt), replay.experts(args) and not evaluation
            agent = box.agent(
                world,
                sampling=sampling_params,
                seed=own_seed,
                routing_key=key,
                aborted=lambda: state.aborted,
                routed_experts=experts,
                task_id=ref["task_id"],
            )
            episode = await box.run(
                world,
                ref["task_id"],
                agent,
                seed=seed,
                evaluation=evaluation,
                aborted=lambda: state.aborted,
                prefix=ref.get("prefix", ()),
                routing_key=key,
            )
            if episode.termination.disposition is not Disposition.RETRY or state.aborted:
                break
        lacking = None if evaluation else replay.missing(args, episode.replies)
        if lacking is None:
            fill(args, sample, episode, replayed=not evaluation)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return _failed(args, sample, error)
    if lacking is not None and episode.termination is not Termination.ABORTED:
        raise ConfigError(lacking)
    if lacking is not None:
        placeholder(sample, lacking, Termination.ABORTED, args)
    return sample


def _failed(args: Any, sample: Sample, error: Exception) -> Sample:
    log.error("generate failed for sample %s", sample.index, exc_info=error)
    placeholder(sample, f"{type(error).__name__}: {error}", args=args)
    return sample


def _routing_key(sample: Sample, attempt: int) -> str:
    """Keeps one conversation on one server; a conversation that starts anew is another one."""
    if sample.session_id and attempt == 0:
        return sample.session_id
    return f"tau2-{sample.index}-{uuid.uuid4().hex[:12]}"


def fill(args: Any, sample: Sample, episode: Episode, replayed: bool = True) -> None:
    """Write an episode into a sample: tokens, mask and log-probs from the ledger, tau2's reward, what the filters read.

    Each reply of the server goes in with its own `meta_info`, from which slime counts prefix-cache hits and
    speculation, and takes what the trainer replays (`replayed`). Status and weight versions are the episode's.
    """
    ledger, termination = episode.ledger, episode.termination
    if ledger is None or ledger.sampled == 0 or (episode.outcome is None and termination is not Termination.ABORTED):
        placeholder(sample, episode.detail, termination, args)
        return
    restart(sample)
    replay.start(args, sample, replayed)
    tokens, log_probs = ledger.tokens, ledger.log_probs
    sample.tokens = tokens[: ledger.prompt_length]
    at, prompt = 0, ledger.prompt_length
    for reply in episode.replies:  # what follows the last turn trains nothing, and may be what outgrew the context
        start, end = reply.start, reply.end
        if end > start > at:
            sample.append_response_tokens(args, tokens=tokens[prompt + at : prompt + start], trainable=False)
        own, meta = tokens[prompt + start : prompt + end], replay.meta_info(args, sample, reply, replayed)
        sample.append_response_tokens(args, tokens=own, log_probs=log_probs[start:end], trainable=True, meta_info=meta)
        at = max(at, end)
    sample.response = "\n".join(t.text for t in episode.turns)
    sample.weight_versions = list(episode.weight_versions)
    sample.non_generation_time = max(0.0, episode.wall_s - episode.policy_s)
    sample.metadata["tau2"] = _summary(episode)
    if termination is Termination.ABORTED:
        sample.status, sample.reward, sample.remove_sample = (
            Sample.Status.ABORTED,
            0.0,
            True,
        )  # slime's metrics round every reward
        return
    sample.status = Sample.Status.TRUNCATED if termination.exhausted else Sample.Status.COMPLETED
    sample.reward = episode.reward


def _summary(episode: Episode) -> dict[str, Any]:
    outcome = episode.outcome
    return {
        "termination": episode.termination.value,
        "detail": episode.detail,
        "steps": episode.steps,
        "turns": len(episode.turns),
        "partial": outcome.partial if outcome else 0.0,
        "components": outcome.components if outcome else {},
        "card_components": card_fractions(outcome.reward_info) if outcome else {},
        "turn_partials": [t.partial for t in episode.turns],
        "turn_gains": [t.gain for t in episode.turns if t.end > t.start],
        "calls": sum(t.calls for t in episode.turns),
        "policy_s": episode.policy_s,
        "usage": episode.usage,
        "tool_errors": episode.tool_errors,
        "malformed": sum(t.malformed for t in episode.turns),
        "wall_s": episode.wall_s,
        "user_s": episode.user_s,
        "user_stopped_early": episode.user_stopped_early,
        **episode.provenance,
    }


def placeholder(
    sample: Sample, detail: str, termination: Termination = Termination.ENVIRONMENT_ERROR, args: Any = None
) -> None:
    """A sample that trains nothing and counts for nothing, in the shape the trainer needs."""
    restart(sample)
    sample.tokens, sample.response_length, sample.loss_mask, sample.rollout_log_probs = [0, 0], 1, [0], [0.0]
    sample.reward, sample.remove_sample = 0.0, True
    replay.pad(args, sample)
    sample.status = Sample.Status.ABORTED if termination.disposition is Disposition.RETRY else Sample.Status.FAILED
    sample.metadata["tau2"] = {"termination": termination.value, "detail": detail, "partial": 0.0, "components": {}}
