"""What a process costs before it plays anything: `python tests/bench/process_start.py`. CPU seconds and memory of a new
process that reads a tokenizer and tau2; the same with litellm, which is imported only where tau2's own runner is called
(`slime_tau2/bench/deferred.py`); and of torch alone, which `transformers` imports. Medians of five.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

RUNS = 5
READS = "from slime_tau2.domains.helpdesk import TOKENIZER; from slime_tau2.episode import worlds; "
READS += "from slime_tau2.tokenizer import load_tokenizer; load_tokenizer(TOKENIZER); worlds.load('retail')"
WAYS = {
    "nothing": "",
    "tokenizer and tau2": READS,
    "tokenizer, tau2 and litellm": f"{READS}; from slime_tau2 import bench; bench.load('utils.llm_utils')",
    "torch": "import torch",
}
TOLD = """
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def main() -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {RUNS}")
    for name, code in WAYS.items():
        runs = [
            subprocess.run([sys.executable, "-c", code + TOLD], capture_output=True, check=True) for _ in range(RUNS)
        ]
        cpu_s, mib = zip(*(json.loads(run.stdout.splitlines()[-1]) for run in runs), strict=True)
        print(f"{name:28} {median(cpu_s):5.2f} s of CPU, {median(mib):5.0f} MiB")


if __name__ == "__main__":
    main()
