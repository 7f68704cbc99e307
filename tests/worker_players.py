"""Players for tests of workers: what they do is what the job says. In a module of its own, where workers find it."""

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter

from slime_tau2.errors import ConfigError
from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.terminations import Termination
from slime_tau2.types import Episode, Outcome, TaskRef


def episode(number):
    """An episode that its number tells all of."""
    ledger = TokenLedger(Ids.of([1, number]))
    ledger.append_sampled([number, number + 1], [-0.1 * number, -1e-17])
    ledger.append_context(Ids.of([7]))
    return Episode(
        task=TaskRef("helpdesk", str(number)),
        seed=number,
        termination=Termination.USER_STOP,
        outcome=Outcome(float(number % 2), 0.5, {"writes": 0.5}, {"reward": float(number % 2)}),
        segments=[ledger],
        messages=[{"role": "user", "content": f"é{number}"}],
    )


class Obedient:
    """A job is (number, what to do): `play`, `wait`, `stop`, `die`, `user error`, `bug`, `unsendable` or seconds to sleep."""

    def __init__(self, number, count):
        self.number, self.count, self.played, self.prepared = number, count, 0, []

    async def play(self, job, aborted):
        number, what = job
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "user error":
            raise ConfigError(f"job {number} will not do")
        if what == "bug":
            raise KeyError(number)
        if what == "wait":
            while not aborted():  # noqa: ASYNC110 (an agent asks before each turn, too)
                await asyncio.sleep(0.005)
            played = episode(number)
            played.termination, played.outcome = Termination.ABORTED, None
            return played
        if what == "unsendable":
            played = episode(number)
            played.messages.append(threading.Lock())
            return played
        if not isinstance(what, str):
            await asyncio.sleep(what)
        self.played += 1
        played = episode(number)
        played.detail = f"worker {self.number} of {self.count}, process {os.getpid()}"
        played.messages.append({"role": "user", "content": json.dumps(self.prepared)})
        return played

    def prepare(self, task):
        self.prepared.append(task)

    def take_counts(self):
        counts, self.played = Counter(played=self.played), 0
        return +counts

    def silences(self):
        return {"policy": 5.0 + self.number, "user": 0.0}

    async def close(self):
        pass


class NeverThere:
    """A player that cannot be made."""

    def __init__(self, number, count):
        raise ConfigError("no such domain: mars")


class Broken:
    """A player that a bug keeps from being made."""

    def __init__(self, number, count):
        raise KeyError("mars")


class DeadOnArrival:
    """A player whose process ends as it is made."""

    def __init__(self, number, count):
        os._exit(3)


class Slow:
    """A player that takes long to be made; the file is there as soon as that has begun."""

    def __init__(self, begun, number, count):
        begun.touch()
        time.sleep(20)
