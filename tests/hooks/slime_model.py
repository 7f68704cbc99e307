"""A small model of the orders in which slime calls a data source and the hooks around it: its rollouts, its loops, its
aborts, and kills.

Four rollouts (synchronous, partial, fully-async, and fully-async as v0.3.1 has it, which throws finished groups away)
in two loops (train.py; train_async.py, whose `save` queues behind the whole next rollout). No model, no server, no
clock: each episode ends as a seed says. `Run.check` holds what must be true of the state of every rollout id.

What the model knows was read off slime v0.3.1 and later, and is checked against them by
tests/upstream/test_group_accounts.py.
"""

from __future__ import annotations

import json
import random
from argparse import Namespace
from pathlib import Path

from slime_tau2.hooks import filters, generate, rewards
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.terminations import Termination

SYNC = "slime.rollout.sglang_rollout.generate_rollout"
FULLY = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"
BATCH, OVER, SIZE, SAVE_EVERY = 4, 7, 2, 3


class Killed(Exception):
    """kill -9, here and now."""


class Run:
    """One training of `rollouts` rollouts over as many processes as it takes."""

    def __init__(self, directory: Path, mode: str, loop: str, seed: int, all_samples_hook: bool = True):
        self.mode, self.loop, self.rng, self.all_samples_hook = mode, loop, random.Random(seed), all_samples_hook
        self.args = Namespace(
            n_samples_per_prompt=SIZE,
            save=str(directory),
            load=str(directory),
            tau2_user="scripted",
            rollout_batch_size=BATCH,
            partial_rollout=mode == "partial",
            rollout_function_path=FULLY if mode.startswith("fully") else SYNC,
        )
        self.closed: dict[int, int] = {}  # group -> the rollout in which it trained, or was dropped
        self.checkpoint = -1  # the newest rollout whose weights are saved
        self.steps, self.kill_at = 0, None

    # --- processes
    # -----------------------------------------------------------------------------------------------------

    def train(self, rollouts: int, kills: int = 0) -> None:
        for n in range(kills + 1):
            self.kill_at = self.steps + self.rng.randrange(1, 40) if n < kills else None
            try:
                self._process(rollouts)
            except Killed:
                continue
            break

    def _process(self, rollouts: int) -> None:
        self.source = Tau2DataSource(self.args)
        self.source.load(self.checkpoint)
        self.closed = {k: r for k, r in self.closed.items() if r <= self.checkpoint}
        self.resumed_from = self.checkpoint
        assert {g[0].group_index for g in self.source.buffer} | set(self.closed) == set(
            range(self.source.factory.next_group)
        )
        self.active, self.queue = [], []
        first = self.checkpoint + 1
        if self.loop == "train":
            for r in range(first, rollouts):
                self._generate(r)
                self._save_model(r, rollouts)
                self._save_source(r, rollouts)
            return
        for r in range(
            first, rollouts
        ):  # train_async: the next rollout is asked for first, the state of this one behind it
            if r == first:
                self._generate(r)
            if r + 1 < rollouts and self.rng.random() < 0.5:
                self._generate(r + 1)
                self._save_model(r, rollouts)
            else:
                self._save_model(r, rollouts)
                if r + 1 < rollouts:
                    self._generate(r + 1)
            self._save_source(r, rollouts)

    def _periodic(self, r: int, rollouts: int) -> bool:
        return (r + 1) % SAVE_EVERY == 0 or r == rollouts - 1

    def _save_model(self, r: int, rollouts: int) -> None:
        if self._periodic(r, rollouts):
            self.checkpoint = r
        self._maybe_die()

    def _save_source(self, r: int, rollouts: int) -> None:
        if self._periodic(r, rollouts):
            self.source.save(r)
            self.check(r)
        self._maybe_die()

    def _maybe_die(self) -> None:
        self.steps += 1
        if self.kill_at is not None and self.steps >= self.kill_at:
            raise Killed

    # --- rollouts
    # ------------------------------------------------------------------------------------------------------

    def _generate(self, r: int) -> None:
        trained = self._fully_async() if self.mode.startswith("fully") else self._synchronous()
        for group in trained:
            self._close(group, r)
        for group in self._dropped:
            self._close(group, r)
        self._maybe_die()
        flat = [s for g in trained for s in g]
        log_hooks.log_rollout(r, self.args, flat, None, 1.0)
        self.check(r)
        self._maybe_die()
        rewards.reward_post_process(self.args, flat)

    def _close(self, group: list[Sample], r: int) -> None:
        assert group[0].group_index not in self.closed, "it has trained, or was dropped, before"
        self.closed[group[0].group_index] = r

    def _fetch(self, count: int) -> list[list[Sample]]:
        groups = self.source.get_samples(count)
        busy = {g[0].group_index for g in [*self.active, *self.queue]}
        for group in groups:
            index = group[0].group_index
            assert index not in self.closed and index not in busy, "served twice"
            assert all(s.status is not Sample.Status.ABORTED for s in group), "what was cut off begins anew"
        return groups

    def _synchronous(self) -> list[list[Sample]]:
        self._dropped: list[list[Sample]] = []
        data: list[list[Sample]] = []
        finished: list[list[Sample]] = []
        remaining = 0
        while len(data) < BATCH:
            while remaining < BATCH:
                groups = self._fetch(OVER)
                self.active += groups
                remaining += len(groups)
            for group in self._some(self.active):
                self._end(group)
                finished.append(group)
                verdict = filters.dynamic_sampling_filter(self.args, group)
                if not verdict.keep and not (verdict.keep_when_insufficient and remaining <= BATCH):
                    remaining -= 1
                elif len(data) < BATCH:
                    data.append(group)
                    continue
                if not verdict.keep and not any(s.status is Sample.Status.ABORTED for s in group):
                    self._dropped.append(group)
            self._maybe_die()
        aborted = []
        for group in self.active:
            for s in group:
                self._end_one(s, self.rng.choice(["not begun", "aborted", "won", "lost"]))
            aborted.append(group)
        self.active = []
        if self.mode != "partial":  # complete all the same, they are settled by the filter's verdict
            self._dropped += [
                g for g in aborted if _complete(g) and not filters.dynamic_sampling_filter(self.args, g).keep
            ]
        filters.rollout_sample_filter(self.args, data)
        if self.all_samples_hook:
            filters.process_all_samples(self.args, finished, self.source.get_samples)
        if self.mode == "partial" and aborted:
            self.source.add_samples(aborted)
        return data

    def _fully_async(self) -> list[list[Sample]]:
        self._dropped = []
        collected: list[list[Sample]] = []
        while len(collected) < BATCH:
            while len(self.active) < OVER and len(self.queue) < OVER:
                self.active += self._fetch(1)
            for group in self._some(self.active):
                self._end(group)
                if any(s.status is Sample.Status.ABORTED for s in group):
                    self.source.add_samples([group])
                else:
                    self.queue.append(group)
            take = len(self.queue) if self.mode == "fully_v031" else BATCH - len(collected)
            collected, self.queue = collected + self.queue[:take], self.queue[take:]
            self._maybe_die()
        return sorted(collected, key=lambda g: g[0].index)[:BATCH]  # what is behind it is gone, under v0.3.1

    def _some(self, groups: list) -> list:
        taken = [groups.pop(self.rng.randrange(len(groups))) for _ in range(min(len(groups), self.rng.randrange(1, 4)))]
        return taken

    # --- episodes
    # ------------------------------------------------------------------------------------------------------

    def _end(self, group: list[Sample]) -> None:
        kind = self.rng.random()
        for n, s in enumerate(group):
            if kind < 0.1:
                self._end_one(s, "spoiled")
            elif kind < 0.2 and n == 0:
                self._end_one(s, "spoiled")
            elif kind < 0.25:
                self._end_one(s, "broken")
            else:
                self._end_one(s, self.rng.choice(["won", "lost"]))

    def _end_one(self, s: Sample, how: str) -> None:
        if s.status is Sample.Status.COMPLETED or how == "not begun":
            return  # slime hands a finished episode on as it is
        if how in ("spoiled", "broken"):
            generate.placeholder(
                s, "why", Termination.POLICY_FAILURE if how == "spoiled" else Termination.ENVIRONMENT_ERROR
            )
            return
        s.status = Sample.Status.ABORTED if how == "aborted" else Sample.Status.COMPLETED
        s.reward, s.remove_sample, s.response = float(how == "won"), how == "aborted", "said"
        s.metadata["tau2"] = {"termination": "aborted" if how == "aborted" else "user_stop"}

    # --- what must be true
    # ---------------------------------------------------------------------------------------------

    def check(self, r: int) -> None:
        """The state of rollout `r`: every group that was ever served has trained or was dropped by then, or will be
        served again; never both.
        """
        state = json.loads((Path(self.args.save) / "rollout" / f"tau2_data_source_{r}.json").read_text())
        over = {k for k, rollout in self.closed.items() if rollout <= r}
        again = [g["group"] for g in state["returned"]]
        assert len(again) == len(set(again)) and not set(again) & over, "doubled"
        assert set(again) | over == set(range(state["next_group"])), "lost"
        assert state["next_index"] == SIZE * state["next_group"]


def _complete(group: list[Sample]) -> bool:
    return all(s.status in (Sample.Status.COMPLETED, Sample.Status.TRUNCATED, Sample.Status.FAILED) for s in group)
