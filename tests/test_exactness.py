"""Invariant 4 in full: trajectory, termination and RewardInfo are tau2's own, on every task of train and test.

On PyPI's copy this is the exhaustive tier; tests/upstream/test_exactness_v1.py runs the same on v1.0.x.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from exactness import FUZZES, differences, kinds, tasks_of, world_of

from slime_tau2.episode import worlds


def compare(domain: str, how: str) -> None:
    """Every task of a domain, in each kind of conversation; `how` is retail's basis, or banking_knowledge's retrieval
    kind.
    """
    ids = tasks_of(world_of(domain, how))
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(partial(differences, domain, how), ids, chunksize=4))
    assert [text for found in results for text in found[:-1]] == []
    assert sum(int(found[-1]) for found in results) == len(ids) * len(kinds(domain))


def test_there_are_at_least_300_random_episodes():
    assert sum(n * len(tasks_of(worlds.load(d))) for d, n in FUZZES.items()) >= 300


@pytest.mark.exhaustive
@pytest.mark.parametrize("domain", list(FUZZES))
def test_driver_and_live_score_equal_tau2s_own_runner_and_evaluator(domain):
    compare(domain, "judge")
