"""Precision and recall of `evaluation.fault`: `python tests/bench/fault.py [PERCENT] [SEED] [RUN …]`.

In retail, airline and telecom the expert plays PERCENT of `TASKS` tasks of the factory, and each conversation is played
again with one fault planted (`tests/planted_faults.py`). In helpdesk the scripted user errs by itself; what it did is read off its
messages and compared with its facts, in episodes of a flawed teacher and in the runs that are named.
"""

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from planted_faults import Played

from slime_tau2.data import records
from slime_tau2.domains.helpdesk.tasks import facts_of
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.evaluation.fault import kinds, testimony
from slime_tau2.evaluation.fault.judge import Judge
from slime_tau2.evaluation.fault.kinds import KINDS
from slime_tau2.limits import Limits
from slime_tau2.types import is_success

TASKS = {"retail": 120, "airline": 600, "telecom": 170}
"""{domain: tasks}: enough for 100 cases of each kind, all domains together."""
FLAWS = 2.0


class Tally:
    """What was planted and what was claimed, by kind."""

    def __init__(self):
        self.planted, self.found, self.claims, self.right = Counter(), Counter(), Counter(), Counter()
        self.blameless = self.alarms = 0
        self.wrong, self.left_out = [], defaultdict(Counter)

    def add(self, one, claimed):
        """One planted conversation and {kind: what is claimed of it}."""
        if one.kind:
            self.planted[one.kind] += 1
            self.found[one.kind] += one.kind in claimed
            if one.kind == kinds.LEFT_OUT:
                self.left_out[one.how].update(planted=1, found=one.kind in claimed)
        for kind, finding in claimed.items():
            fair = kind == one.kind or (one.agent and KINDS[kind][0] == "agent")
            self.claims[kind] += 1
            self.right[kind] += fair
            if not fair:
                self.wrong.append((one, finding))
        if not one.kind or one.agent:
            self.blameless += 1
            self.alarms += any(KINDS[kind][0] in ("user", "reference") for kind in claimed)


def measure(domain, count, seed):
    """The tally of a domain."""
    played, tally = Played(domain, count, seed), Tally()
    judge = Judge({domain: played.world})
    for one in played.planted():
        judging = judge if one.world is None else Judge({domain: one.world})
        tally.add(one, {finding.kind: finding for finding in judging.judge(one.record).standing})
    return tally


def ratio(part, whole):
    return f"{part / whole:.3f}" if whole else "–"


def show(domain, tally):
    for kind in KINDS:
        planted, claims = tally.planted[kind], tally.claims[kind]
        if planted or claims:
            recall, precision = ratio(tally.found[kind], planted), ratio(tally.right[kind], claims)
            print(f"{domain:9} {kind:20} {planted:8} {recall:>7} {claims:8} {precision:>10}")
    for how, n in tally.left_out.items():
        print(f"{domain:9}   left out, {how:17} {n['planted']:2} {ratio(n['found'], n['planted']):>7}")
    print(f"{domain:9} blameless users and references: {tally.blameless}, accused: {tally.alarms}")
    for one, finding in tally.wrong:
        print(f"  wrong: {one.how or one.kind}, {one.record['task_id']}: {finding.kind}, {finding.text[:200]}")


async def helpdesk(count, seed):
    """Failed conversations of a flawed teacher with the scripted user."""
    world, rows = worlds.load("helpdesk"), []
    task_ids = world.task_ids("train+val")
    for n in range(count):
        agent = CallableAgent(Teacher(seed + n, FLAWS).act)
        task_id = task_ids[n % len(task_ids)]
        episode = await run_episode(world, task_id, agent, DomainUser(), seed=seed + n, limits=Limits(max_steps=60))
        if not is_success(episode.reward):
            rows.append({**json.loads(json.dumps(episode.record())), "attempt": 0})
    return rows


def show_helpdesk(title, rows):
    """What helpdesk's scripted user did wrong in failed conversations, and what of it is found."""
    world, judge, found = worlds.load("helpdesk"), Judge(), defaultdict(Counter)
    for record in rows:
        facts = facts_of(world.task(record["task_id"]))
        said = [m["content"] for m in record["messages"] if m["role"] == "user" and m.get("content")]
        if not said:
            continue
        opening, told = said[0], any(testimony.says(words, facts.ident) for words in said)
        findings = judge.judge(record).findings
        known = {f.kind for f in findings}
        erred = {
            "mistyped an id": bool(testimony.codes(opening)) and not testimony.says(opening, facts.ident),
            "left an id out, and never told it": not testimony.codes(opening) and not told,
            "hung up at the confirmation": said[-1].startswith("Yes, bye."),
        }
        shown_by = dict(zip(erred, (kinds.SAID, kinds.LEFT_OUT, kinds.STOPPED), strict=True))
        for what, did in erred.items():
            found[what].update(
                did=did, found=did and shown_by[what] in known, wrong=not did and shown_by[what] in known
            )
    print(f"{title}: {len(rows)} failed conversations")
    for what, n in found.items():
        print(f"  {what}: {n['did']}, found {n['found']}, claimed where it did not: {n['wrong']}")


def main(percent=100, seed=0, *directories):
    print(f"{'':9} {'kind':20} {'planted':>8} {'recall':>7} {'claims':>8} {'precision':>10}")
    whole = Tally()
    for domain, count in TASKS.items():
        started = time.process_time()
        tally = measure(domain, count * percent // 100, seed)
        show(domain, tally)
        print(f"  {time.process_time() - started:.0f} s of CPU")
        for mine, theirs in zip(
            (whole.planted, whole.found, whole.claims, whole.right),
            (tally.planted, tally.found, tally.claims, tally.right),
            strict=True,
        ):
            mine.update(theirs)
        for how, n in tally.left_out.items():
            whole.left_out[how].update(n)
        whole.blameless += tally.blameless
        whole.alarms += tally.alarms
    show("all", whole)
    show_helpdesk("helpdesk, a flawed teacher", asyncio.run(helpdesk(24 * percent, seed)))
    for directory in directories:
        failed = [r for r in records.read(Path(directory) / records.FILE) if r["reward"] == 0.0]
        show_helpdesk(directory, failed)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
