"""How long cases are and how well the teacher plays them: `python tests/bench/cases.py [COUNT]`.

Tokens are the bundled tokenizer's, of a whole episode with its prompt; turns are the agent's, without its greeting.
"""

import asyncio
import sys
import time
from statistics import fmean

from slime_tau2 import bench
from slime_tau2.data import traces
from slime_tau2.domains.helpdesk import MAX_STEPS, TOKENIZER, case_user
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.factory import build
from slime_tau2.limits import Limits
from slime_tau2.tokenizer import load_tokenizer


async def play(world, flaws):
    """An episode of each task, and the seconds of CPU that they took."""
    started = time.process_time()
    episodes = [
        await run_episode(
            world,
            task_id,
            CallableAgent(Teacher(seed, flaws).act),
            DomainUser(),
            seed=seed,
            limits=Limits(max_steps=MAX_STEPS),
        )
        for seed, task_id in enumerate(world.tasks)
    ]
    return episodes, time.process_time() - started


def spread(numbers):
    """Median, 95th percentile and most."""
    ordered = sorted(numbers)
    return f"{ordered[len(ordered) // 2]:8} {ordered[len(ordered) * 95 // 100]:8} {ordered[-1]:8}"


def turns(episode):
    return [m for m in episode.messages if m["role"] == "assistant"][1:]


def main(count):
    own = worlds.load("helpdesk")
    tasks = [bench.Task.model_validate(m.task) for m in build.make("helpdesk-cases", count, 0)]
    world = worlds.build(own.spec, name="cases", tasks=tasks)
    chat = ChatRenderer(load_tokenizer(TOKENIZER), world.tool_schemas)
    prompt = bench.agent_prompt(world.policy)
    print(f"{'teacher':24} {'reward':>8} {'partial':>8} {'s per 1,000':>12}")
    played, hangs_up = {}, case_user.HANGS_UP
    for name, flaws, impatience in (
        ("expert", 0.0, hangs_up),
        ("expert, patient user", 0.0, 0.0),
        ("flaws 0.3", 0.3, hangs_up),
        ("flaws 1", 1.0, hangs_up),
    ):
        case_user.HANGS_UP = impatience
        episodes, seconds = asyncio.run(play(world, flaws))
        played[name] = episodes
        reward, partial = fmean(e.reward for e in episodes), fmean(e.outcome.partial for e in episodes)
        print(f"{name:24} {reward:8.3f} {partial:8.3f} {seconds / count * 1000:12.1f}")
    expert = played["expert, patient user"]
    print(f"\n{'expert, patient user':24} {'median':>8} {'p95':>8} {'most':>8}")
    rows = [one for e in expert for one in traces.tokenise(traces.to_row(e, prompt, world.tool_schemas), chat)]
    print(f"{'tokens':24} {spread(len(row.tokens) for row in rows)}")
    print(f"{'agent turns':24} {spread(len(turns(e)) for e in expert)}")
    print(f"{'messages':24} {spread(len(e.messages) for e in expert)}")
    calls = [len(m.get("tool_calls") or []) for e in expert for m in turns(e)]
    print(f"of the turns with calls, {sum(n > 1 for n in calls) / sum(n > 0 for n in calls):.0%} have several")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
