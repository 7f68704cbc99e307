"""A worker's player whose models answer at once, in the worker: what is left is the work of episodes."""

from __future__ import annotations

from collections import Counter

from model_servers import ModelServers

from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.tokenizer import Tokenizer


class Instant(ModelServers):
    """Models without latency."""

    def policy_seconds(self, number, prompt_tokens, new_tokens):
        return 0.0

    def user_seconds(self, number):
        self._turns[number] += 1
        return 0.0


class InstantPlayer:
    """Plays the n-th conversation of a domain; a job is (domain, n)."""

    def __init__(self, domains: tuple[str, ...], tokenizer: Tokenizer, number: int = 0, count: int = 1):
        self.boxes = {}
        for domain in domains:
            servers = Instant(domain, tokenizer)
            config = Tau2Config(user="llm", user_base_url="http://localhost/v1", retail_basis="communicate")
            policy = PolicyClient("http://localhost", transport=servers.policy_transport)
            box = Harness(config, servers.tokenizer, policy)
            box.user_client.endpoint.transport = servers.user_transport
            box.chat(domain)
            self.boxes[domain] = servers, box

    async def play(self, job, aborted):
        domain, number = job
        servers, box = self.boxes[domain]
        agent = box.agent(servers.world, sampling={"temperature": 1.0}, routing_key=str(number))
        return await box.run(servers.world, servers.ids[number % len(servers.ids)], agent, seed=number)

    def prepare(self, task):
        pass

    def take_counts(self):
        return Counter()

    def silences(self):
        return {}

    async def close(self):
        for _, box in self.boxes.values():
            await box.close()
