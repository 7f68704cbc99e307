"""Tasks per second of CPU, check by check: `python tests/bench/verify.py [COUNT]`, on factory tasks of each domain."""

import sys
import time

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.factory import build, factories
from slime_tau2.verification.verify import Verifier


def main(count):
    print(f"{'domain':10} {'make':>8} " + " ".join(f"{name:>8}" for name in ("1, 2", "3", "4", "5", "6", "7")))
    for domain in factories.DOMAINS:
        own = worlds.load(domain)
        started = time.process_time()
        made = build.make(domain, count, 0)
        rates = [count / (time.process_time() - started)]
        tasks = [bench.Task.model_validate(m.task) for m in made]
        for checks in ({1, 2}, {3}, {4}, {5}, {6}, {7}):
            world = worlds.build(own.spec, name="made", tasks=tasks)
            verifier = Verifier(world, own, checks=checks)
            started = time.process_time()
            for _ in verifier.verify_all(list(world.tasks)):
                pass
            rates.append(count / (time.process_time() - started))
        print(f"{domain:10} " + " ".join(f"{rate:8.0f}" for rate in rates))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
