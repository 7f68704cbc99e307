"""The exactness of tests/test_exactness.py on tau2 v1.0.x, whose runner grades too, and in each of retail's reward bases."""

import pytest
from exactness import FUZZES
from test_exactness import compare

from slime_tau2 import bench

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(bench.VINTAGE.name != "v1", reason="tau2 v1.0.x is not installed (README, 'tau2 itself')"),
]


@pytest.mark.parametrize("domain, basis", [*((d, "judge") for d in FUZZES), ("retail", "communicate"), ("retail", "no_judge")])
def test_driver_and_live_score_equal_run_simulation(domain, basis):
    compare(domain, basis)
