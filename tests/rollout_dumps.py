"""Dumps of rollouts for tests: a small one, whose every number is known, and one as large as a training's."""

from __future__ import annotations

import random

from slime_tau2.dumps.arrays import checksum, pack_floats, pack_ids
from slime_tau2.dumps.format import FORMAT

PROMPT, RESPONSE = [1, 2, 3], [4, 5, 6, 7, 8]
TURNS = [[0, 2], [3, 5]]


def sample_row(index: int, reward: float, **over):
    row = {
        "sample": index,
        "segment": 0,
        "reward": reward,
        "training_reward": reward or 0.1,
        "advantage": reward - 0.5,
        "trains": True,
        "why_not": "",
        "termination": "user_stop",
        "detail": "",
        "partial": reward or 0.4,
        "components": {"writes": reward},
        "turns": 2,
        "calls": 1,
        "tool_errors": 0,
        "malformed": 0,
        "response_tokens": len(RESPONSE),
        "trained_tokens": 4,
        "log_prob": -0.5,
        "policy_s": 1.0,
        "user_s": 2.0,
        "weights": ["3"],
    }
    return row | over


def group_row(group: int, samples, **over):
    row = {
        "group": group,
        "domain": "helpdesk",
        "task": f"orders_{group}",
        "served": {"by": "order", "epoch": 0, "place": group},
        "verdict": "kept",
        "fate": "trained",
        "why": "",
        "samples": samples,
    }
    return row | over


def sample_tokens(index: int, advantage: float = 0.5):
    return {
        "sample": index,
        "segment": 0,
        "prompt": 0,
        "ids": pack_ids(RESPONSE),
        "crc": checksum(PROMPT + RESPONSE),
        "trained": TURNS,
        "log_probs": pack_floats([-0.5, -0.25, -1.0, -0.125]),
        "advantages": pack_floats([advantage] * 4),
        "turns": [
            {"gain": 0.5, "calls": [{"start": 0, "end": 2, "gain": 0.5, "wrong": ""}]},
            {"gain": -0.25, "calls": [{"start": 3, "end": 5, "gain": -0.25, "wrong": "forbidden"}]},
        ],
    }


def rollout_part(rollout: int, **over):
    """Group 3n trains, 3n + 1 was dropped and 3n + 2 is served again."""
    first = 3 * rollout
    part = {
        "format": FORMAT,
        "writer": "slime_tau2 test",
        "rollout": rollout,
        "written": 1000.0 + rollout,
        "seconds": 12.5,
        "options": {"shaping": "gated", "credit": "episode"},
        "figures": {"tau2/success": 0.5, "tau2/reward": 0.5},
        "waiting": 1,
        "groups": [
            group_row(first, [sample_row(2 * first, 1.0), sample_row(2 * first + 1, 0.0)]),
            group_row(
                first + 1,
                [sample_row(2 * first + 2, 0.0), sample_row(2 * first + 3, 0.0)],
                verdict="all_0.0",
                fate="dropped",
            ),
            group_row(
                first + 2,
                [],
                served={"by": "returned", "after": "the batch was full"},
                verdict="",
                fate="returned",
                why="the end of the rollout cut it off",
            ),
        ],
        "prompts": [pack_ids(PROMPT)],
        "pieces": {str(n): f"t{n} " for n in range(1, 9)} | {"8": "<script>"},
        "samples": [sample_tokens(2 * first, 0.5), sample_tokens(2 * first + 1, -0.5)],
        "left_out": 0,
    }
    return part | over


def trainer_part(rollout: int, **over):
    sample = {
        "sample": 6 * rollout,
        "crc": checksum(PROMPT + RESPONSE),
        "at": None,
        "log_probs": pack_floats([-0.5, -0.25, -1.25, -0.125]),
        "advantages": pack_floats([0.5] * 4),
    }
    return {"format": FORMAT, "rollout": rollout, "samples": [sample]} | over


def large_part(rollout: int, *, groups: int, size: int, tokens: int):
    """A part of `groups` groups of `size` samples whose tokens are all in it: `tokens` behind a prompt of 1,500, half
    of them sampled in turns of 40.
    """
    rng = random.Random(rollout)
    prompt = [rng.randrange(2000) for _ in range(1500)]
    rows, samples = [], []
    for n in range(groups):
        key = rollout * groups + n
        own = []
        for m in range(size):
            index, reward = key * size + m, float(rng.random() < 0.4)
            ids = [rng.randrange(2000) for _ in range(tokens)]
            turns = [[start, min(start + 40, tokens)] for start in range(0, tokens, 80)]
            count = sum(end - start for start, end in turns)
            samples.append(
                {
                    "sample": index,
                    "segment": 0,
                    "prompt": 0,
                    "ids": pack_ids(ids),
                    "crc": checksum(prompt + ids),
                    "trained": turns,
                    "log_probs": pack_floats([-rng.expovariate(3) for _ in range(count)]),
                    "advantages": pack_floats([reward - 0.4] * count),
                    "turns": [{"gain": 0.1, "calls": []} for _ in turns],
                }
            )
            own.append(sample_row(index, reward, response_tokens=tokens, trained_tokens=count, turns=len(turns)))
        rows.append(group_row(key, own))
    part = rollout_part(rollout, groups=rows, samples=samples, prompts=[pack_ids(prompt)])
    return part | {"pieces": {str(n): f"w{n} " for n in range(2000)}}
