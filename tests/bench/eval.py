"""What `slime-tau2 eval` adds to the policy's latency: `python tests/bench/eval.py`.

helpdesk's 150 test tasks × 4 attempts, 64 at a time, against a policy server in a process of its own that takes 0.5 s a
turn. The bound is what the turns' latency alone would take: each attempt's turns times 0.5 s, put on 64 slots in order.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "upstream")]

from slime_harness import TeacherServer
from throughput import bound_s

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import worlds
from slime_tau2.evaluation import policies, runner
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.evaluation.players import PolicyPlayer
from slime_tau2.evaluation.request import EvalRequest
from slime_tau2.tokenizer import load_tokenizer

DELAY_S, LIVE = 0.5, 64


def serve() -> None:
    with TeacherServer(load_tokenizer(TOKENIZER), flaws=1.0, delay=DELAY_S) as server:
        print(server.url, flush=True)
        time.sleep(3600)


def main() -> None:
    child = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        url = child.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            request = EvalRequest(
                output=Path(directory), domain="helpdesk", policy=url, attempts=4, tokenizer=TOKENIZER, concurrency=LIVE
            )
            policy = policies.policy(request.resolved(), Tau2Config(user="scripted"), stack)
            world = worlds.load("helpdesk")
            job = runner.Run(
                plan=RunPlan(sets=(TaskSet.of(world, "test"),), attempts=4, settings=policy.settings),
                worlds={"helpdesk": world},
                output=request.output,
                run_one=PolicyPlayer(policy, judged=False).run_one,
                concurrency=LIVE,
            )

            async def run() -> tuple[list[dict], float]:
                started = time.perf_counter()
                records = (await runner.run(job)).records
                wall = time.perf_counter() - started
                await policy.harness.close()
                return records, wall

            records, wall = asyncio.run(run())
    finally:
        child.kill()
    order = sorted(records, key=lambda r: r["attempt"])  # the runner goes through the tasks attempt by attempt
    bound = bound_s([DELAY_S * len(r["turns"]) for r in order], LIVE)
    print(
        f"load {os.getloadavg()[0]:.1f}; {len(records)} attempts, {sum(r['reward'] == 1.0 for r in records)} won, in {wall:.1f} s; "
        f"latency alone {bound:.1f} s: {wall / bound - 1:+.1%}"
    )


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
