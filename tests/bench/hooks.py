"""What the generate hook costs: `python tests/bench/hooks.py [--tokenizer DIR]` (tests/bench/qwen_tokenizer.py makes
one of Qwen's size).

256 samples at once through `hooks.generate.generate`, as slime's loop calls it, against gold models in this process
that take as long as real ones (model_servers.py): wall time beside the longest conversation's own waiting, CPU a
sample, and the share of it that is the hook's (what `run_episode` alone takes is subtracted). Then one conversation of
a hundred turns: CPU a turn, early and late.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import drivers
from model_servers import ModelServers
from transformers import AutoTokenizer

from slime_tau2 import seeds
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode.transport import Response
from slime_tau2.hooks import generate
from slime_tau2.hooks.compat import GenerateState, Sample

SAMPLES, TURNS, ROUNDS = 256, 95, 3


def make_args(tokenizer: Path, domain: str, **over) -> Namespace:
    options = {"tau2_domains": (domain,), "tau2_user": "llm", "tau2_retail_basis": "communicate", **over}
    return Namespace(
        hf_checkpoint=str(tokenizer),
        sglang_router_ip="127.0.0.1",
        sglang_router_port=9,
        sglang_server_concurrency=SAMPLES,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=32768,
        **options,
    )


async def at_once(args: Namespace, servers: ModelServers, domain: str, count: int) -> tuple[float, float, float, int]:
    """(wall, bound, CPU, won): seconds of `count` samples, the longest wait of one, seconds, successes."""
    box, state = generate.harness(args), GenerateState(args)
    box.policy.endpoint.transport, box.user_client.endpoint.transport = servers.policy_transport, servers.user_transport
    samples = []
    for n in range(count):
        metadata = {"domain": domain, "task_id": servers.ids[n % len(servers.ids)]}
        samples.append(Sample(index=n, group_index=n // 8, session_id=str(n), metadata=metadata))
    of_users = [seeds.of_sample(0, domain, s.metadata["task_id"], s.index) for s in samples]
    servers.waited.clear()
    servers._turns.clear()
    servers._seen.clear()
    cpu, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*(generate.generate(args, s, dict(state.sampling_params)) for s in samples))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    await box.close()
    bound = max(servers.waited[n] + servers.waited[seed] for n, seed in enumerate(of_users))
    return wall, bound, cpu, sum(s.reward == 1.0 for s in samples)


async def driver_cpu(servers: ModelServers, count: int) -> float:
    """CPU seconds of the same conversations through `run_episode`, without the hook."""
    servers.waited.clear()
    servers._turns.clear()
    servers._seen.clear()
    cpu = time.process_time()
    await drivers.ROWS["ours, in process"](servers, count, count, None)
    return time.process_time() - cpu


async def long_conversation(args: Namespace, tokenizer) -> tuple[float, float, int]:
    """(early, late, tokens): median CPU ms a turn of the first and the last twenty of a long conversation, and its
    length.
    """
    box, state, at = generate.harness(args), GenerateState(args), []
    ids = [*tokenizer.encode("Go on.", add_special_tokens=False), tokenizer.eos_token_id]
    pairs = ",".join(f"[-0.1,{i},null]" for i in ids)
    reply = (
        f'{{"text":"","meta_info":{{"finish_reason":{{"type":"stop"}},"output_token_logprobs":[{pairs}]}}}}'.encode()
    )

    async def transport(url: str, body: bytes, headers) -> Response:
        at.append(time.process_time())
        return Response(200, reply)

    async def user(url: str, body: bytes, headers) -> Response:
        said = b'{"choices":[{"message":{"role":"assistant","content":"I am still here and would like to know what happens next, please."}}]}'
        return Response(200, said)

    box.policy.endpoint.transport, box.user_client.endpoint.transport = transport, user
    sample = Sample(index=0, metadata={"domain": "retail", "task_id": box.world("retail").task_ids("train")[0]})
    await generate.generate(args, sample, dict(state.sampling_params))
    await box.close()
    gaps = [1e3 * (b - a) for a, b in itertools.pairwise(at)]
    return median(gaps[3:23]), median(gaps[-20:]), len(sample.tokens)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    path = parser.parse_args().tokenizer
    tokenizer = AutoTokenizer.from_pretrained(path)
    print(
        f"{'domain':8} {'samples':>7} {'won':>4} {'wall s':>7} {'of bound':>8} {'CPU ms a sample':>16} {'the hook itself':>16}   load"
    )
    for domain in ("airline", "retail", "telecom"):
        servers, args = ModelServers(domain, tokenizer), make_args(path, domain)

        async def run(servers=servers, args=args, domain=domain):
            await at_once(args, servers, domain, 16)  # warm
            await driver_cpu(servers, 16)
            hooked = [await at_once(args, servers, domain, SAMPLES) for _ in range(ROUNDS)]
            bare = [await driver_cpu(servers, SAMPLES) for _ in range(ROUNDS)]
            return hooked, bare

        hooked, bare = asyncio.run(run())
        wall, bound, cpu, won = (median(h[k] for h in hooked) for k in range(4))
        own = 1e3 * (cpu - median(bare)) / SAMPLES
        print(
            f"{domain:8} {SAMPLES:7} {won:4.0f} {wall:7.2f} {bound / wall:8.0%} {1e3 * cpu / SAMPLES:16.2f} {own:16.2f}   {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    early, late, tokens = asyncio.run(long_conversation(make_args(path, "retail", tau2_max_steps=2 * TURNS), tokenizer))
    print(
        f"one conversation of {TURNS} turns, {tokens} tokens: {early:.2f} ms CPU a turn among the first 20, {late:.2f} among the last 20"
    )


if __name__ == "__main__":
    main()
