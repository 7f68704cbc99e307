"""CPU of the local engine alone, at long conversations: `python tests/bench/engine_cpu.py`.

A random model of the quickstart's size. Each conversation has 18 turns of 3 to 11 sampled tokens, and hears 5 to 39
tokens before each; when it ends the next begins. Prints sampled tokens and turns per second of CPU (one thread) at 1, 8
and 24 conversations at a time, medians of five; the engine's own work, without HTTP, tau2 and the driver.
"""

from __future__ import annotations

import os
import random
import statistics
import time

import torch

from slime_tau2.local.engine import Engine, Request
from slime_tau2.local.models import new_model
from slime_tau2.local.sampling import SamplingParams

VOCABULARY, TURNS, RUNS, RUN_S = 1378, 18, 5, 4.0


class Conversation:
    """Random ids behind a head that all share."""

    def __init__(self, head: list[int], rng: random.Random):
        self._head, self._rng = head, rng
        self._begin()

    def _begin(self) -> None:
        self.ids, self.turns = self._head + self._heard(10, 11), 0

    def _heard(self, least: int, most: int) -> list[int]:
        return [self._rng.randrange(VOCABULARY) for _ in range(self._rng.randrange(least, most))]

    def request(self, rid: str) -> Request:
        params = SamplingParams(max_new_tokens=self._rng.randrange(3, 12), ignore_eos=True, sampling_seed=1)
        return Request(rid=rid, input_ids=list(self.ids), params=params)

    def goes_on(self, said: list[int]) -> None:
        self.turns += 1
        if self.turns == TURNS:
            self._begin()
        else:
            self.ids = self.ids + said + self._heard(5, 40)


def played(engine: Engine, conversations: dict[str, Conversation], seconds: float) -> tuple[float, float]:
    """(sampled tokens, turns) per second of CPU, over so many of them."""
    tokens = turns = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        for done in engine.step():
            conversation = conversations[done.rid]
            conversation.goes_on(done.output_ids)
            engine.admit(conversation.request(done.rid))
            tokens, turns = tokens + len(done.output_ids), turns + 1
    return tokens / spent, turns / spent


def main() -> None:
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for live in (1, 8, 24):
        rng = random.Random(0)
        engine = Engine(new_model(VOCABULARY, 4096, seed=0), eos=-1, max_slots=64)
        head = [rng.randrange(VOCABULARY) for _ in range(90)]
        conversations = {str(n): Conversation(head, rng) for n in range(live)}
        for rid, conversation in conversations.items():
            engine.admit(conversation.request(rid))
        played(engine, conversations, RUN_S)  # so that they are at different turns
        runs = [played(engine, conversations, RUN_S) for _ in range(RUNS)]
        tokens, turns = (statistics.median(run[i] for run in runs) for i in (0, 1))
        print(f"{live:2d} conversations: {tokens:5.0f} sampled tokens, {turns:4.0f} turns per second of CPU")


if __name__ == "__main__":
    main()
