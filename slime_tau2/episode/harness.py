"""What all episodes of a process share, made from one configuration: clients, renderers, the judge; and one way to run
one.
"""

from __future__ import annotations

import inspect
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, users, worlds
from slime_tau2.episode.agents import Agent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.judge import LLMJudge
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.openai_chat import ChatClient, thinking
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.errors import ConfigError, JudgeError, UserSimulatorError
from slime_tau2.types import Episode


def eval_user_server(config: Tau2Config) -> tuple[str, str, str | None]:
    """(URL, model, variable that an option names for its key) of the user model in evaluation."""
    if config.eval_user_model is None:
        return config.user_base_url, config.user_model, config.user_key_env
    url, key = config.eval_user_base_url or config.user_base_url, config.eval_user_key_env
    if key is None and credentials.same_server(url, config.user_base_url):
        key = config.user_key_env  # it was named for that server, and for no other
    return url, config.eval_user_model, key


@dataclass
class Harness:
    """`tokenizer` is None where agents have no tokens, `policy` where they are scripted. `await close()` before the
    event loop ends.
    """

    config: Tau2Config
    tokenizer: Any = None
    policy: PolicyClient | ChatClient | None = None
    _chats: dict[str, ChatRenderer] = field(default_factory=dict, init=False, repr=False)
    _prompts: dict[tuple[str, str], str] = field(default_factory=dict, init=False, repr=False)

    def world(self, domain: str) -> worlds.World:
        return worlds.load(domain, self.config.retail_basis, self.config.retrieval)

    def chat(self, domain: str) -> ChatRenderer:
        if domain not in self._chats:
            tools = self.protocol.template_tools(self.world(domain).tool_schemas)
            self._chats[domain] = ChatRenderer(self.tokenizer, tools, self.config.thinking)
        return self._chats[domain]

    @property
    def protocol(self) -> Native:
        return PROTOCOLS[self.config.protocol]

    def system_prompt(self, world: worlds.World, task_id: str | None = None) -> str:
        """The agent's system prompt in a domain; one retrieval kind of banking_knowledge's wants the task
        named, too.
        """
        key = world.domain, world.policy_for(task_id)
        if key not in self._prompts:  # a file and the schemas' JSON are read and written once, not once an episode
            self._prompts[key] = self.protocol.system_prompt(key[1], world.tool_schemas, self.config.agent_prompt)
        return self._prompts[key]

    def agent(
        self,
        world: worlds.World,
        sampling: dict[str, Any],
        seed: int | None,
        routing_key: str | None,
        aborted: Callable[[], bool] = lambda: False,
        routed_experts: bool = False,
        task_id: str | None = None,
    ) -> TokenAgent:
        """An agent for one episode. `max_new_tokens` of the sampling parameters is the whole response's budget, as in
        slime.
        """
        assert isinstance(self.policy, PolicyClient), "a token agent needs a policy server"
        config, sampling = self.config, dict(sampling)
        budget = int(sampling.pop("max_new_tokens", config.max_context_tokens))
        stops = config.stop_at_tool_call or self.protocol.stop_at_tool_call
        return TokenAgent(
            self.policy,
            self.chat(world.domain),
            self.system_prompt(world, task_id),
            sampling,
            config.max_turn_tokens,
            budget,
            config.max_context_tokens,
            stops,
            seed,
            routing_key,
            aborted,
            self.protocol,
            routed_experts,
        )

    def user(self, evaluation: bool = False, routing_key: str | None = None) -> users.User:
        """A fresh user for one episode; in evaluation the second user model, where one is named.

        `routing_key`: this episode's, for a user behind several servers.

        Raises:
            ConfigError: `module:Class` is not there.
        """
        kinds: dict[str, Any] = {
            "llm": users.LLMUser,
            "scripted": users.DomainUser,
            "gold": users.GoldUser,
            "plain": users.PlainUser,
        }
        name = self.config.user
        kind: type[users.User] = plugins.load(name, "user") if plugins.named(name) else kinds[name]
        if not inspect.isclass(kind):
            raise ConfigError(
                f"tau2_user = {name} is {type(kind).__name__}, not a class with start and respond (docs/extending.md)"
            )
        if issubclass(kind, users.LLMUser):
            user = kind(self.eval_user_client if evaluation else self.user_client)
            user.routing_key = routing_key
            return user
        return kind()

    def check(self) -> None:
        """Make what a bad option spoils for every episode, before the first: both users, and the renderer of the first
        domain.

        Raises:
            UserError: what the first episode would have met.
        """
        for evaluation in (False, True):
            self.user(evaluation)
        if self.tokenizer is not None:
            self.chat(self.config.domains[0])

    async def run(
        self,
        world: worlds.World,
        task_id: str,
        agent: Agent,
        seed: int,
        evaluation: bool = False,
        aborted: Callable[[], bool] = lambda: False,
        prefix: Sequence[dict] = (),
        routing_key: str | None = None,
    ) -> Episode:
        """Run one episode under the configuration's limits. `routing_key` is the agent's, for the user too; None makes
        one.
        """
        config, key = self.config, routing_key or f"tau2-{uuid.uuid4().hex}"
        return await run_episode(
            world,
            task_id,
            agent,
            self.user(evaluation, key),
            seed=seed,
            max_steps=config.max_steps,
            max_errors=config.max_errors,
            deadline_s=config.episode_timeout_s,
            aborted=aborted,
            judge=self.judge,
            official=self.official,
            prefix=prefix,
        )

    @cached_property
    def user_client(self) -> ChatClient:
        return self._user_client(self.config.user_base_url, self.config.user_model, self.config.user_key_env)

    @cached_property
    def eval_user_client(self) -> ChatClient:
        config = self.config
        return self.user_client if config.eval_user_model is None else self._user_client(*eval_user_server(config))

    def _user_client(self, url: str, model: str, key_env: str | None) -> ChatClient:
        config = self.config
        options = {"temperature": config.user_temperature, **thinking(config.user_thinking, url, "tau2_user_thinking")}
        return ChatClient(
            url,
            model,
            key_env,
            UserSimulatorError,
            options,
            config.user_concurrency,
            config.user_timeout_s,
            config.user_retries,
            access=config.access,
        )

    @cached_property
    def judge(self) -> LLMJudge:
        config = self.config
        return LLMJudge(
            ChatClient(
                config.judge_base_url,
                config.judge_model,
                config.judge_key_env,
                JudgeError,
                {"temperature": 0.0},
                config.user_concurrency,
                config.user_timeout_s,
                config.user_retries,
                access=config.access,
            )
        )

    @cached_property
    def official(self) -> OfficialCheck | None:
        return OfficialCheck(self.config.official_check) if self.config.official_check else None

    @property
    def _clients(self) -> dict[str, ChatClient | PolicyClient]:
        made = vars(self)
        found = {
            "policy": self.policy,
            "user": made.get("user_client"),
            "eval_user": made.get("eval_user_client"),
            "judge": made["judge"].client if "judge" in made else None,
        }
        return {name: client for name, client in found.items() if client is not None}

    def take_faults(self) -> Counter[str]:
        """{"policy/http_500": n, …}: failed requests since the last call, those that a retry mended too."""
        out: Counter[str] = Counter()
        for name, client in self._clients.items():
            out.update({f"{name}/{kind}": n for kind, n in client.endpoint.faults.items()})
            client.endpoint.faults.clear()
        return out

    async def close(self) -> None:
        """Close this event loop's connections and the processes of the cross-check."""
        for client in self._clients.values():
            await client.close()
        if "official" in vars(self) and self.official is not None:
            self.official.close()
