"""Runs one episode: a conversation from its beginning to its score.

Invariant 3: an episode that starts ends exactly once, with one Termination. Failures are values: whatever goes wrong in
a participant, a server or tau2 comes back as the Termination of the returned Episode. Three things are raised:
cancellation; UserError, a configuration that will not do; and LedgerError, a bug in this package.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from slime_tau2.episode import usage
from slime_tau2.episode.agents import Agent
from slime_tau2.episode.conversation import Conversation, unplayed
from slime_tau2.episode.judge import Judge
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.turnstile import turnstile
from slime_tau2.episode.users import User
from slime_tau2.episode.world import World
from slime_tau2.errors import EpisodeError, LedgerError, ScoreMismatch, UserError
from slime_tau2.limits import Limits
from slime_tau2.record import MessageRecord
from slime_tau2.terminations import Disposition, Termination
from slime_tau2.types import Episode

log = logging.getLogger(__name__)


async def run_episode(
    world: World,
    task_id: str,
    agent: Agent,
    user: User,
    *,
    seed: int = 0,
    limits: Limits = Limits(),
    aborted: Callable[[], bool] = lambda: False,
    judge: Judge | None = None,
    official: OfficialCheck | None = None,
    prefix: Sequence[MessageRecord] = (),
) -> Episode:
    """Run one conversation to its end and score it.

    Args:
        limits: tau2's two limits, and the deadline of the whole episode; to miss the deadline is infrastructure.
        aborted: asked before each agent turn; True ends the episode as ABORTED.
        judge: answers natural-language assertions where the reward basis has them.
        official: grades every scored episode a second time with tau2's own evaluator, in another process.
        prefix: what agent and user said first, as an episode's record holds it (tau2 messages as JSON, the greeting
            excluded). It is played again, tools and all; only then do `agent` and `user` take over. It is the agent's
            prompt, and earns it nothing.

    Raises:
        UserError: the configuration will not do, which only this episode found out (`Harness.check` finds most).
        LedgerError: a token record broke an invariant.
    """
    started = time.perf_counter()
    await turnstile()
    task = world.task(task_id)
    episode = unplayed(world, task, seed)
    conversation: Conversation | None = None
    deadline = asyncio.timeout(limits.deadline_s)
    with usage.collecting() as spent:
        try:
            async with deadline:
                conversation = Conversation(
                    world=world,
                    task=task,
                    agent=agent,
                    user=user,
                    episode=episode,
                    limits=limits,
                    aborted=aborted,
                    prefix=prefix,
                )
                spent.position = conversation.length
                conversation.begin()
                await conversation.converse()
            if episode.termination.disposition is Disposition.SCORE:
                await conversation.score(judge, official)
        except EpisodeError as error:
            _end(episode, error.termination, str(error))
            if isinstance(error, ScoreMismatch):
                log.error("episode %s: %s", episode.task, error)
        except (UserError, LedgerError):
            raise  # no episode would fare better; and to train on a wrong token record is worse than to stop
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():  # else it is a participant's or tau2's own
                _end(episode, Termination.TIMEOUT, f"not finished within {limits.deadline_s} s")
            else:
                _end(episode, Termination.ENVIRONMENT_ERROR, f"{type(error).__name__}: {error}")
                log.exception("episode %s ended by an exception", episode.task)
    if conversation is not None:
        conversation.close()
    episode.usage, episode.reasoning = spent.tokens, spent.thoughts
    episode.wall_s = time.perf_counter() - started
    return episode


def lost(world: World, task_id: str, seed: int, error: EpisodeError) -> Episode:
    """The episode that whoever played it took along: nothing is known of it but its end."""
    episode = unplayed(world, world.task(task_id), seed)
    _end(episode, error.termination, str(error))
    return episode


def _end(episode: Episode, termination: Termination, detail: str) -> None:
    episode.termination, episode.detail = termination, detail
