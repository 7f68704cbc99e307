"""Runs one episode: a conversation from its beginning to its score.

Invariant 3: an episode that starts ends exactly once, with one Termination. Failures are values: whatever goes wrong in
a participant, a server or tau2 comes back as the Termination of the returned Episode. Only cancellation is raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from slime_tau2.episode import usage
from slime_tau2.episode.agents import Agent
from slime_tau2.episode.conversation import Conversation, turnstile
from slime_tau2.episode.judge import Judge
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.user_errors import stopped_after_confirming
from slime_tau2.episode.users import User
from slime_tau2.episode.worlds import World
from slime_tau2.errors import EpisodeError, LedgerError, ScoreMismatch
from slime_tau2.terminations import Disposition, Termination
from slime_tau2.types import Episode, TaskRef

log = logging.getLogger(__name__)


async def run_episode(
    world: World,
    task_id: str,
    agent: Agent,
    user: User,
    *,
    seed: int = 0,
    max_steps: int = 200,
    max_errors: int = 10,
    deadline_s: float = 3600.0,
    aborted: Callable[[], bool] = lambda: False,
    judge: Judge | None = None,
    official: OfficialCheck | None = None,
    prefix: Sequence[dict] = (),
) -> Episode:
    """Run one conversation to its end and score it.

    Args:
        max_steps: tau2's limit on hops; max_errors: on error results, the user's included.
        deadline_s: wall-clock limit of the whole episode; hitting it is infrastructure.
        aborted: asked before each agent turn; True ends the episode as ABORTED.
        judge: answers natural-language assertions where the reward basis has them.
        official: grades every scored episode a second time with tau2's own evaluator, in another process.
        prefix: what agent and user said first, as an episode's record holds it (tau2 messages as JSON, the greeting
            excluded). It is played again, tools and all; only then do `agent` and `user` take over. It is the agent's
            prompt, and earns it nothing.
    """
    task = world.task(task_id)
    episode = Episode(
        TaskRef(world.domain, task_id), seed, Termination.ENVIRONMENT_ERROR, None, provenance=world.provenance(task)
    )
    started = time.perf_counter()
    await turnstile()
    run = Conversation(world, task, agent, user, episode, max_steps, max_errors, aborted, prefix)
    with usage.collecting() as told:
        told.position = lambda: len(run.orchestrator.trajectory)
        await _to_its_end(run, episode, deadline_s, judge, official)
    episode.usage, episode.reasoning = told.tokens, told.thoughts
    episode.ledger, episode.wall_s = agent.ledger, time.perf_counter() - started
    episode.messages = [m.model_dump(mode="json", exclude_none=True) for m in run.messages()]
    episode.user_stopped_early = stopped_after_confirming(episode.messages)
    return episode


async def _to_its_end(
    run: Conversation, episode: Episode, deadline_s: float, judge: Judge | None, official: OfficialCheck | None
) -> None:
    """Converse and score; whatever goes wrong becomes the episode's termination."""
    try:
        async with asyncio.timeout(deadline_s):
            try:
                episode.termination, episode.detail = await run.converse()
            finally:
                run.close_turn()  # a failure of the user must not lose the turn that it should have answered
        if episode.termination.disposition is Disposition.SCORE:
            answer = await run.judged(judge)
            outcome = run.outcome(answer)
            if official is not None:
                await official.compare(
                    run.world, run.task, run.messages(), episode.termination.tau2_reason, answer, outcome.reward_info
                )
            episode.outcome = outcome
    except TimeoutError:
        episode.termination, episode.detail = Termination.TIMEOUT, f"not finished within {deadline_s} s"
    except EpisodeError as error:
        if isinstance(error, ScoreMismatch):
            log.error("episode %s: %s", episode.task, error)
        episode.termination, episode.detail = error.termination, str(error)
    except LedgerError:
        raise  # a bug in this package: training on such a record would be worse than stopping
    except Exception as error:
        log.exception("episode %s ended by an exception", episode.task)
        episode.termination, episode.detail = Termination.ENVIRONMENT_ERROR, f"{type(error).__name__}: {error}"
