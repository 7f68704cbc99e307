"""Where every group ends in slime's own rollouts, with servers that abort and fail at random: trained, dropped by the
filter, or served again.

The accounts are kept from outside (what was handed out, what came out) and compared with the state file of every
rollout id. Needs slime's source tree on PYTHONPATH; tests/hooks/test_group_life.py is its model, for where slime is
absent.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.upstream
pytest.importorskip("slime.utils.types", reason="slime is not installed: put its source tree on PYTHONPATH")

from aiohttp import web
from slime_harness import TeacherServer, assert_trainable, fresh, make_args

from slime_tau2.hooks import filters
from slime_tau2.hooks.compat import throws_groups_away
from slime_tau2.hooks.group_book import spoiled, unfinished
from slime_tau2.hooks.metrics import log_rollout
from slime_tau2.hooks.rewards import reward_post_process
from slime_tau2.hooks.samples import flatten

FULLY = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"
ROLLOUTS = 20


class Unreliable(TeacherServer):
    """Aborts one request in four, as a weight update would, and breaks one in thirty."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.rng, self.aborts, self.failures = random.Random(5), 0, 0

    async def _abortable(self, request):
        chance = self.rng.random()
        if chance < 0.25:
            self.aborts += 1
            meta = {
                "finish_reason": {"type": "abort", "message": "random"},
                "output_token_logprobs": [],
                "weight_version": "3",
            }
            return web.json_response({"text": "", "output_ids": [], "meta_info": meta})
        if chance < 0.283:
            self.failures += 1
            return web.Response(status=500)
        self.token_delay = 0.05 * self.rng.random()
        return await super()._abortable(request)


@pytest.mark.parametrize("mode", ["synchronous", "partial", "train_async", "fully_async"])
def test_each_group_ends_once_for_every_rollout_id(mode, tokenizer, tmp_path):
    from slime.rollout.base_types import call_rollout_fn
    from slime.utils.misc import load_function

    over = {
        "tau2_policy_retries": 0,
        "tau2_episode_retries": 0,
        "over_sampling_batch_size": 8,
        "sglang_server_concurrency": 24,
    }
    if mode == "partial":
        over["partial_rollout"] = True
    if mode == "fully_async":
        over |= {"rollout_function_path": FULLY, "sglang_server_concurrency": 8}
    with Unreliable(tokenizer, delay=0.01) as server:
        args = make_args(tmp_path, server.port, **over)
        source = fresh(args)
        served: dict[int, list] = {}
        trained: dict[int, int] = {}
        dropped: set[int] = set()
        doubled = 0
        real = source.get_samples

        def get_samples(count):
            nonlocal doubled
            groups = real(count)
            for group in groups:
                doubled += group[0].group_index in trained or group[0].group_index in dropped
                served[group[0].group_index] = group
            return groups

        get_samples.__self__ = source  # slime hands the bound method on, and the all-samples hook asks it for its owner
        source.get_samples = get_samples
        run = load_function(args.rollout_function_path)
        lost, again_and_closed = [], []
        try:
            for r in range(ROLLOUTS):
                out = call_rollout_fn(run, args, r, source, evaluation=False)
                flat = flatten(out.samples)
                for group in out.samples:
                    doubled += group[0].group_index in trained
                    trained[group[0].group_index] = r
                for s in flat:
                    assert_trainable(s)
                log_rollout(r, args, flat, None, 1.0)
                state = json.loads((tmp_path / "ckpt" / "rollout" / f"tau2_data_source_{r}.json").read_text())
                again = {g["group"] for g in state["returned"]}
                for key in range(state["next_group"]):
                    if key not in trained and key not in again and key not in dropped:
                        group = served[key]
                        fair = (
                            mode != "fully_async"
                            and not unfinished(group)
                            and not spoiled(group)
                            and not filters.keeps(args, group)
                        )
                        (dropped.add if fair else lost.append)(key)
                again_and_closed += sorted(again & (set(trained) | dropped))
                resumed = fresh_source(args)
                resumed.load(r)
                assert {g[0].group_index for g in resumed.buffer} == again and resumed.factory.next_group == state[
                    "next_group"
                ]
                reward_post_process(args, flat)
                if r and mode == "train_async":
                    source.save(r - 1)
                elif mode != "train_async":
                    source.save(r)
        finally:
            if mode == "fully_async":
                from slime.rollout import fully_async_rollout

                fully_async_rollout._stop_global_worker()
        throws = f", throws groups away: {throws_groups_away()}" if mode == "fully_async" else ""
        print(
            f"\n{mode}: {ROLLOUTS} rollouts, {len(served)} groups served, {len(trained)} trained, {server.aborts} aborts, "
            f"{server.failures} failures; lost {len(lost)}, doubled {doubled + len(again_and_closed)}{throws}"
        )
        assert server.aborts and server.failures and lost == [] and again_and_closed == [] and doubled == 0


def fresh_source(args):
    """Another data source beside the one that runs, which stays the current one."""
    from slime_tau2.hooks import current, data_source

    running = current.data_source()
    try:
        return data_source.Tau2DataSource(args)
    finally:
        current.register(running)


DEAD = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from slime_harness import fresh, make_args
from slime.rollout.base_types import call_rollout_fn
from slime.utils.misc import load_function
args = make_args(
    Path(sys.argv[1]), 9, tau2_policy_retries=0, tau2_episode_retries=0, sglang_server_concurrency=8, rollout_batch_size=2,
    rollout_function_path="slime.rollout.fully_async_rollout.generate_rollout_fully_async",
)
call_rollout_fn(load_function(args.rollout_function_path), args, 0, fresh(args), evaluation=False)
"""


def test_a_dead_server_ends_a_fully_async_rollout_with_the_reason(tmp_path):
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DEAD, str(tmp_path), str(here), str(here.parent)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "episodes were ended by the infrastructure, the last by: policy" in done.stderr, (
        done.stderr[-2000:]
    )
