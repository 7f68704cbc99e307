"""The exactness of tests/test_exactness.py on tau2 from its own repository: v1.0.x, whose runner grades too, and the
pin, whose does not.

Retail in each of its reward bases; banking_knowledge, which v1.0.x has, in the retrieval kinds that need neither a key
nor a sandbox.
"""

import importlib.util

import pytest
from exactness import FUZZES
from test_exactness import compare

from slime_tau2 import bench

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        bench.VINTAGE.name == "pypi", reason="tau2's own repository is not on the path (README, 'tau2 itself')"
    ),
]
v1_only = pytest.mark.skipif(bench.VINTAGE.name != "v1", reason="only tau2 v1.0.x has it")
OFFLINE = ("bm25", "bm25_grep", "grep_only", "no_knowledge", "golden_retrieval", "full_kb")


@pytest.mark.parametrize("domain", FUZZES)
def test_driver_and_live_score_equal_tau2s_own_runner_and_evaluator(domain):
    compare(domain, "judge")


@v1_only
@pytest.mark.parametrize("basis", ["communicate", "no_judge"])
def test_retail_without_a_judge(basis):
    compare("retail", basis)


@v1_only
@pytest.mark.skipif(importlib.util.find_spec("rank_bm25") is None, reason="pip install rank-bm25")
@pytest.mark.parametrize("kind", OFFLINE)
def test_banking_knowledge(kind):
    compare(bench.KNOWLEDGE, kind)
