"""What all episodes of a process share, made from one configuration: clients, renderers, the judge."""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, users, worlds
from slime_tau2.episode.agents import Agent
from slime_tau2.episode.chat import ChatRenderer, ToolSchema
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.judge import LLMJudge
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.openai_chat import ChatClient, thinking
from slime_tau2.episode.own_agent import OwnAgent, OwnAgents
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError, JudgeError, UserSimulatorError
from slime_tau2.record import MessageRecord
from slime_tau2.tokenizer import Tokenizer
from slime_tau2.types import Episode

log = logging.getLogger(__name__)
USERS: dict[str, type[users.User]] = {
    "llm": users.LLMUser,
    "scripted": users.DomainUser,
    "gold": users.GoldUser,
    "plain": users.PlainUser,
}
"""{value of the option `user`: the simulator}."""


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
    """`await close()` before the event loop ends.

    Attributes:
        tokenizer: None where agents have no tokens.
        policy: the client of the policy's server; None where agents are scripts.
    """

    config: Tau2Config
    tokenizer: Tokenizer | None = None
    policy: PolicyClient | ChatClient | None = None
    _chats: dict[str, ChatRenderer] = field(default_factory=dict, init=False, repr=False)
    _prompts: dict[tuple[str, str], str] = field(default_factory=dict, init=False, repr=False)
    _clients: dict[str, ChatClient | PolicyClient] = field(default_factory=dict, init=False, repr=False)
    """By the name under which their faults are counted. Users and judge are made on first use, and stand here then."""

    def __post_init__(self) -> None:
        if self.policy is not None:
            self._clients["policy"] = self.policy

    def world(self, domain: str) -> World:
        return worlds.load(domain, retail_basis=self.config.retail_basis, retrieval=self.config.retrieval)

    def chat(self, domain: str) -> ChatRenderer:
        if domain not in self._chats:
            chat = self._renderer(self.protocol.template_tools(self.world(domain).tool_schemas))
            self.protocol.check(chat)
            self._chats[domain] = chat
        return self._chats[domain]

    @property
    def one_segment(self) -> bool:
        """Whether every episode is one segment: as the chat template has it (`ChatRenderer.keeps_history`), and the
        agent.
        """
        if self.own_agents is not None and self.own_agents.several:
            return False
        return all(self.chat(self.world(domain).name).keeps_history for domain in self.config.domains)

    @property
    def protocol(self) -> Native:
        return PROTOCOLS[self.config.protocol]

    def system_prompt(self, world: World, task_id: str | None = None) -> str:
        """The agent's system prompt in a domain; one retrieval kind of banking_knowledge's wants the task
        named, too.
        """
        key = world.name, world.policy_for(task_id)
        if key not in self._prompts:  # a file and the schemas' JSON are read and written once, not once per episode
            self._prompts[key] = self.protocol.system_prompt(key[1], world.tool_schemas, self.config.agent_prompt)
        return self._prompts[key]

    def agent(
        self,
        world: World,
        *,
        sampling: Mapping[str, Any],
        seed: int | None = None,
        routing_key: str | None = None,
        aborted: Callable[[], bool] = lambda: False,
        routed_experts: bool = False,
        task_id: str | None = None,
        episode_seed: int = 0,
    ) -> TokenAgent | OwnAgent:
        """An agent for one episode.

        Args:
            sampling: parameters of the server. `max_new_tokens` among them is the whole response's budget, as in slime.
            seed: from which sampling derives; None leaves it to the server.
            episode_seed: for what an agent of the user's own draws itself.
        """
        assert isinstance(self.policy, PolicyClient), "a token agent needs a policy server"
        config, parameters = self.config, dict(sampling)
        budget = int(parameters.pop("max_new_tokens", config.max_context_tokens))
        recorder = Recorder(
            client=self.policy,
            chat=self.chat(world.name),
            sampling=parameters,
            max_turn_tokens=config.max_turn_tokens,
            max_response_tokens=budget,
            max_context_tokens=config.max_context_tokens,
            max_thinking_tokens=config.max_thinking_tokens,
            cut_thoughts=config.cut_thoughts,
            stop_at_tool_call=config.stop_at_tool_call or self.protocol.stop_at_tool_call,
            seed=seed,
            routing_key=routing_key,
            aborted=aborted,
            routed_experts=routed_experts,
        )
        prompt = self.system_prompt(world, task_id)
        if self.own_agents is not None:
            return self.own_agents.agent(recorder, world, system_prompt=prompt, task_id=task_id, seed=episode_seed)
        return TokenAgent(recorder=recorder, system_prompt=prompt, protocol=self.protocol)

    @cached_property
    def own_agents(self) -> OwnAgents | None:
        """What `tau2_agent` names."""
        if self.config.agent is None:
            return None
        return OwnAgents(self.config.agent, self._renderer, self.protocol)

    def _renderer(self, tools: Sequence[ToolSchema] | None) -> ChatRenderer:
        if self.tokenizer is None:
            raise ValueError("agents without tokens have no chat template")
        return ChatRenderer(self.tokenizer, tools, self.config.thinking)

    def user(self, evaluation: bool = False, routing_key: str | None = None) -> users.User:
        """A fresh user for one episode; in evaluation the second user model, where one is named.

        `routing_key`: this episode's, for a user behind several servers.

        Raises:
            ConfigError: `module:Class` is not there.
        """
        name = self.config.user
        kind: type[users.User] = plugins.load(name, "tau2_user") if plugins.named(name) else USERS[name]
        if not inspect.isclass(kind):
            raise ConfigError(
                f"tau2_user = {name} is {type(kind).__name__}, not a class with start and respond (docs/extending.md)"
            )
        if issubclass(kind, users.LLMUser):
            user = kind(self.eval_user_client if evaluation else self.user_client)
            user.routing_key = routing_key
            return user
        return kind()

    def prepare(self, domain: str, task_id: str) -> None:
        """Make what every episode of a task begins with: the gold state of its databases, and the agent's prompt.

        What goes wrong here goes wrong in the episode, too, which says so.
        """
        with suppress(Exception):
            world = self.world(domain)
            task = world.task(task_id)
            self.system_prompt(world, task_id)
            world.stage(task).grader.scorer(task)

    def check(self) -> None:
        """Make what episodes are made of, before the first: a bad option is found here and not in each of them.

        Both users, the judge and the agent's prompt; for each domain its tasks, its scripted user if that is asked for,
        and, where agents have tokens, its renderer.

        Raises:
            UserError: what the first episode would have met.
        """
        for make in (self.user, lambda: self.user(evaluation=True), lambda: self.judge, lambda: self.own_agents):
            make()
        for domain in self.config.domains:
            world = self.world(domain)
            self.system_prompt(world, next(iter(world.tasks), None))
            if self.config.user == "scripted":
                users.scripted_user(world.name)
            if self.tokenizer is not None:
                self.chat(world.name)

    async def run(
        self,
        world: World,
        task_id: str,
        agent: Agent,
        *,
        seed: int,
        evaluation: bool = False,
        aborted: Callable[[], bool] = lambda: False,
        prefix: Sequence[MessageRecord] = (),
        routing_key: str | None = None,
    ) -> Episode:
        """Run one episode under the configuration's limits. `routing_key` is the agent's, for the user too; None makes
        one.
        """
        try:
            episode = await run_episode(
                world,
                task_id,
                agent,
                self.user(evaluation, routing_key or f"tau2-{uuid.uuid4().hex}"),
                seed=seed,
                limits=self.config.limits,
                aborted=aborted,
                judge=self.judge,
                official=self.official,
                prefix=prefix,
            )
        finally:
            if isinstance(agent, OwnAgent):
                await agent.close()
        if isinstance(agent, OwnAgent):
            episode.transcripts = agent.transcripts
        return episode

    @cached_property
    def user_client(self) -> ChatClient:
        config = self.config
        return self._user_client("user", config.user_base_url, config.user_model, config.user_key_env)

    @cached_property
    def eval_user_client(self) -> ChatClient:
        if self.config.eval_user_model is None:
            return self.user_client
        return self._user_client("eval_user", *eval_user_server(self.config))

    def _user_client(self, name: str, url: str, model: str, key_env: str | None) -> ChatClient:
        config = self.config
        client = ChatClient(
            url,
            model,
            key_env=key_env,
            failure=UserSimulatorError,
            options={
                "temperature": config.user_temperature,
                **thinking(config.user_thinking, url, "tau2_user_thinking"),
            },
            concurrency=config.user_concurrency,
            retries=config.user_client_retries,
            access=config.access,
        )
        self._clients[name] = client
        return client

    @cached_property
    def judge(self) -> LLMJudge:
        config = self.config
        client = ChatClient(
            config.judge_base_url,
            config.judge_model,
            key_env=config.judge_key_env,
            failure=JudgeError,
            options={"temperature": 0.0},
            concurrency=config.user_concurrency,
            retries=config.judge_client_retries,
            access=config.access,
        )
        self._clients["judge"] = client
        return LLMJudge(client)

    @cached_property
    def official(self) -> OfficialCheck | None:
        workers = self.config.official_check
        return OfficialCheck(workers) if workers else None  # it starts its processes with the first episode

    def take_faults(self) -> Counter[str]:
        """{"policy/http_500": n, …}: failed requests since the last call, those that a retry mended too."""
        out: Counter[str] = Counter()
        for name, client in self._clients.items():
            out.update({f"{name}/{kind}": n for kind, n in client.endpoint.faults.items()})
            client.endpoint.faults.clear()
        return out

    def silences(self) -> dict[str, float]:
        """{client: seconds since its server's last answer while somebody waits for one; 0.0 while nobody does}."""
        return {name: client.endpoint.silence() for name, client in self._clients.items()}

    async def close(self) -> None:
        """Close this event loop's connections and the processes of the cross-check; what fails is logged."""
        closing: list[Awaitable[None]] = [client.close() for client in self._clients.values()]
        own_agents: OwnAgents | None = self.__dict__.get("own_agents")  # if nobody used it, making it here could raise
        if own_agents is not None:
            closing.append(own_agents.close())
        if self.official is not None:
            closing.append(asyncio.to_thread(self.official.close))  # it waits for its processes
        await close_all(closing)


async def close_all(closing: Iterable[Awaitable[None]]) -> None:
    """Close all of these, whatever fails: an error is logged, and so hides no other, the run's own among them."""
    for error in await asyncio.gather(*closing, return_exceptions=True):
        if error is not None:
            log.error("something could not be closed", exc_info=error)
