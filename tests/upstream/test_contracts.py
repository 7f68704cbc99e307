"""slime's own tests/plugin_contracts with our hooks: each shipped path under its flag, slime's defaults elsewhere.

SLIME_DIR names slime's source tree (the suite of the version under test is the one that counts). Five contracts get a
shim (contract_shims.py); the count of tests that ran our code is printed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SLIME_DIR = os.environ.get("SLIME_DIR", "")
CONTRACTS = Path(SLIME_DIR) / "tests" / "plugin_contracts"
pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not SLIME_DIR or not CONTRACTS.is_dir(), reason="SLIME_DIR does not name slime's source tree"),
]
RUNS = {
    "test_plugin_generate_contracts.py": {"--custom-generate-function-path": "slime_tau2.hooks.generate.generate"},
    "test_plugin_rollout_contracts.py": {},
    "test_plugin_path_loading_contracts.py": {
        "--custom-rm-path": "slime_tau2.hooks.rewards.reward",
        "--dynamic-sampling-filter-path": "slime_tau2.hooks.filters.dynamic_sampling_filter",
        "--buffer-filter-path": "slime_tau2.hooks.filters.buffer_filter",
        "--data-source-path": "slime_tau2.hooks.data_source.Tau2DataSource",
        "--rollout-sample-filter-path": "contract_shims.rollout_sample_filter",
        "--rollout-all-samples-process-path": "contract_shims.process_all_samples",
    },
    "test_plugin_runtime_hook_contracts.py": {
        "--custom-rollout-log-function-path": "contract_shims.log_rollout",
        "--custom-eval-rollout-log-function-path": "contract_shims.log_eval",
        "--custom-reward-post-process-path": "slime_tau2.hooks.rewards.reward_post_process",
        "--rollout-data-postprocess-path": "contract_shims.keep_log_probs",
    },
}


@pytest.mark.parametrize("suite", RUNS)
def test_contracts(suite):
    words = [w for flag, path in RUNS[suite].items() for w in (flag, path)]
    paths = os.pathsep.join([SLIME_DIR, str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # eval-protocol, which carries PyPI's copy of tau2, brings a pytest plugin that imports what slime's stubs have
    # replaced
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_ADDOPTS": "-p no:eval_protocol -p no:cacheprovider"}
    done = subprocess.run(
        [sys.executable, str(CONTRACTS / suite), *words],
        cwd=SLIME_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    print(f"\n{suite}: {counts} with {len(words) // 2} of our paths")
    assert done.returncode == 0 and set(counts) == {"passed"}, done.stdout[-3000:] + done.stderr[-1000:]
