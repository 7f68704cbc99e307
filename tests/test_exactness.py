"""Invariant 4 in full: trajectory, termination and RewardInfo are tau2's own, on every task of train and test.

On PyPI's copy this is the exhaustive tier; tests/upstream/test_exactness_v1.py runs the same on v1.0.x.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from exactness import FUZZES, differences, kinds

from slime_tau2.episode import worlds


def compare(domain: str, retail_basis: str) -> None:
    world = worlds.load(domain, retail_basis)
    ids = [*world.task_ids("train"), *world.task_ids("test")] if domain != "mock" else list(world.tasks)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(partial(differences, domain, retail_basis), ids, chunksize=8))
    assert [text for found in results for text in found[:-1]] == []
    assert sum(int(found[-1]) for found in results) == len(ids) * len(kinds(domain))


def test_there_are_at_least_300_random_episodes():
    assert sum(n * len(worlds.load(d).tasks if d == "mock" else worlds.load(d).task_ids("base")) for d, n in FUZZES.items()) >= 300


@pytest.mark.exhaustive
@pytest.mark.parametrize("domain", list(FUZZES))
def test_driver_and_live_score_equal_tau2s_own_runner_and_evaluator(domain):
    compare(domain, "judge")
