"""What an agent of somebody's own is: how it is made, what it is told, what it answers (docs/extending.md)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from slime_tau2 import bench, plugins
from slime_tau2.episode.api_messages import ApiMessage
from slime_tau2.episode.chat import ToolSchema
from slime_tau2.episode.model import Completion, Model
from slime_tau2.episode.openai_endpoint import Access
from slime_tau2.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What an agent is told before its first turn. Nothing in it tells of the task.

    Attributes:
        domain: the domain, or the task set.
        policy: what tau2 wants the agent to do and not to do, in words.
        system_prompt: the policy as our own agent is given it: in tau2's frame, or that of `tau2_agent_prompt`.
        tools: the domain's tools, as OpenAI's chat completions have them.
        seed: the episode's, for whatever the agent draws itself.
        access: the address of the policy for clients of OpenAI's chat completions.
    """

    domain: str
    policy: str
    system_prompt: str
    tools: list[ToolSchema]
    seed: int
    access: Access


Answer: TypeAlias = Completion | str | ApiMessage | bench.AssistantMessage | Any
"""A completion as the policy said it; a text; an assistant's message, as a mapping or an object of the openai
package.
"""


class Scaffold(Protocol):
    """An agent of one's own, made anew for each episode.

    Its `close`, where it has one, is called in the end. It has 5 s (`own_agent.CLOSE_S`), and a plain function runs in
    a thread; what goes wrong in it is logged, and the episode's result stands.
    """

    def act(self, heard: list[ApiMessage]) -> Awaitable[Answer] | Answer:
        """One turn: what the agent says or calls. A plain function runs in a thread of its own.

        Args:
            heard: what was said since its last turn: the user's words, or the results of its calls; at first all that
                was said before, a greeting of its own perhaps.
        """


Factory: TypeAlias = Callable[[Model, Brief], Scaffold]
SEVERAL = "several_conversations"
"""True as an attribute of a factory: its agents hold several conversations with the policy in an episode, or rewrite
what was said. Each is a segment of its own, and a sample of slime's (docs/hooks.md).
"""


def factory(path: str) -> Factory:
    """The factory that `tau2_agent` names.

    Raises:
        ConfigError: it is not there, or cannot be called with a model and a brief.
    """
    make: Any = plugins.load(path, "tau2_agent")
    try:
        inspect.signature(make).bind(None, None)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"tau2_agent = {path}: it is called as {path.partition(':')[2]}(model, brief), and {error} "
            "(docs/extending.md)"
        ) from error
    return make  # type: ignore[no-any-return]


def several(make: Factory) -> bool:
    """Whether the factory says `SEVERAL` of its agents."""
    return bool(getattr(make, SEVERAL, False))


def sha256(path: str) -> str:
    """The hash of the file in which the factory of `tau2_agent` is.

    Raises:
        ConfigError: it is not there.
    """
    make: Any = plugins.load(path, "tau2_agent")
    module = inspect.getmodule(make)
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest() if module and module.__file__ else ""
