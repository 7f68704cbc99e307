"""Tokens of the agent's calls and of their results in gold conversations: `python tests/bench/call_sizes.py TOKENIZER`.

What `slime_tau2/evaluation/dry_run.py` assumes of a conversation (tests/bench/qwen_tokenizer.py makes a tokenizer of
Qwen's size).
"""

import asyncio
import json
import sys
from statistics import fmean

from transformers import AutoTokenizer

from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import GoldUser


async def sizes(domain, tokenizer):
    world, calls, results = worlds.load(domain, retail_basis="communicate"), [], []
    for task_id in world.task_ids("test"):
        episode = await run_episode(
            world, task_id, ScriptedAgent(scripts.script("gold", world.task(task_id))), GoldUser()
        )
        for m in episode.messages:
            if m["role"] == "tool" and m["requestor"] == "assistant":
                results.append(len(tokenizer.encode(m.get("content") or "", add_special_tokens=False)))
            elif m["role"] == "assistant":
                for c in m.get("tool_calls") or []:
                    text = (
                        "<tool_call>\n"
                        + json.dumps({"name": c["name"], "arguments": c["arguments"]})
                        + "\n</tool_call>"
                    )
                    calls.append(len(tokenizer.encode(text, add_special_tokens=False)))
    return fmean(calls), fmean(results)


if __name__ == "__main__":
    rows = [asyncio.run(sizes(d, AutoTokenizer.from_pretrained(sys.argv[1]))) for d in ("airline", "retail", "telecom")]
    for name, (call, result) in zip(("airline", "retail", "telecom"), rows):
        print(f"{name:8} a call {call:4.0f} tokens, its result {result:4.0f}")
    print(f"{'mean':8} a call {fmean(r[0] for r in rows):4.0f} tokens, its result {fmean(r[1] for r in rows):4.0f}")
