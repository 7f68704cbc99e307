"""Precision and recall of `evaluation.fault`: `python tests/bench/fault.py [TASKS] [SEED]`, on planted faults in retail,
airline and telecom.
"""

import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from planted_faults import Played

from slime_tau2.evaluation import fault, fault_checks

DOMAINS = ("retail", "airline", "telecom")
BLAMELESS = ("user", "reference")


def measure(domain, count, seed, show=False):
    """(planted by kind, found rightly, found in all, blameless, false alarms among them)."""
    played = Played(domain, count, seed)
    judge = fault.Judge()
    judge._courts[domain] = fault._Court(played.world)
    planted, hit, claimed, right = Counter(), Counter(), Counter(), Counter()
    blameless = alarms = 0
    missed, wrong = defaultdict(list), []
    for one in played.planted():
        found = {f.kind: f for f in judge.judge(one.record).standing}
        planted[one.kind] += 1
        if one.kind:
            hit[one.kind] += one.kind in found
            if one.kind not in found:
                missed[one.kind].append(one)
        for kind, finding in found.items():
            claimed[kind] += 1
            agents = fault_checks.KINDS[kind][0] == "agent"
            fair = kind == one.kind or (
                agents and one.how.startswith(("a value made up", "another value read", "another task"))
            )
            right[kind] += fair
            if not fair:
                wrong.append((one, finding))
        if not one.kind:
            blameless += 1
            alarms += any(fault_checks.KINDS[kind][0] in BLAMELESS for kind in found)
    if show:
        for kind, ones in missed.items():
            for one in ones[:show]:
                print("MISSED", kind, one.how, one.record["task_id"])
        for one, finding in wrong[:30]:
            print("WRONG", repr(one.kind), one.how, one.record["task_id"], "|", finding.kind, finding.text[:300])
    return planted, hit, claimed, right, blameless, alarms


def main(count, seed, domains=DOMAINS, show=0):
    print(f"{'':10} {'kind':16} {'planted':>8} {'found':>7} {'recall':>7} {'claims':>7} {'right':>6} {'precision':>9}")
    for domain in domains:
        started = time.process_time()
        planted, hit, claimed, right, blameless, alarms = measure(domain, count, seed, show)
        for kind in fault_checks.KINDS:
            if planted[kind] or claimed[kind]:
                recall = f"{hit[kind] / planted[kind]:.3f}" if planted[kind] else "–"
                precision = f"{right[kind] / claimed[kind]:.3f}" if claimed[kind] else "–"
                print(
                    f"{domain:10} {kind:16} {planted[kind]:8} {hit[kind]:7} {recall:>7} {claimed[kind]:7} {right[kind]:6} {precision:>9}"
                )
        print(
            f"{domain:10} blameless {blameless}: {alarms} accused of user or reference; {time.process_time() - started:.0f} s of CPU"
        )


if __name__ == "__main__":
    main(
        *(int(a) for a in sys.argv[1:3]),
        *([tuple(sys.argv[3].split(",")), int(sys.argv[4])] if len(sys.argv) > 3 else []),
    )
