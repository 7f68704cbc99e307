"""Which task the next group is for: each once per epoch in shuffled order, or drawn by curriculum, or by shares of
domains (`mix`).

Every draw derives from seed and position, so that a resumed run goes on exactly as the run that it resumes would have.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.data import held_out
from slime_tau2.dumps.format import ServedRow
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.record import MessageRecord
from slime_tau2.schedule import prefixes
from slime_tau2.schedule.curriculum import Curriculum
from slime_tau2.schedule.mix import Mix, shares
from slime_tau2.tasksets import openings
from slime_tau2.types import TaskRef

log = logging.getLogger(__name__)
_COUNTERS = ("epoch", "position")


def training_tasks(config: Tau2Config) -> dict[str, TaskRef]:
    """The tasks that a training serves, by name (`domain/task_id`): `config.split` of each of `config.domains`.

    Of a task set, what may not train is left out: its test, val and held-out tasks, and those that did not pass
    verification.

    Raises:
        UserError: no such domain or task set, no such split of it, a task set that was never verified, or none of whose
            tasks may train.
    """
    tasks: dict[str, TaskRef] = {}
    for domain in config.domains:
        world = worlds.load(domain, retail_basis=config.retail_basis, retrieval=config.retrieval)
        ids = world.task_ids(config.split)
        if world.task_set is not None:
            ids = _may_train(config, world, ids)
        for task_id in ids:
            task = TaskRef(world.name, task_id)
            tasks[str(task)] = task
    return tasks


def _may_train(config: Tau2Config, world: World, ids: Sequence[str]) -> list[str]:
    """Those of a task set's tasks that may."""
    held_out.check_source(world.name, config.split, config.unverified)
    held = held_out.held_out(world.name, config.split, config.unverified)
    out = [task_id for task_id in ids if task_id not in held]
    if len(out) < len(ids):
        why = Counter(held_out.NAMES[held[task_id]] for task_id in ids if task_id in held)
        log.warning(
            "%s: %d of the %d tasks of %s do not train: %s",
            world.name,
            len(ids) - len(out),
            len(ids),
            config.split,
            ", ".join(f"{count} {name}" for name, count in why.items()),
        )
    return out


class TaskOrder:
    """The order of `tasks`, as names (`domain/task_id`).

    Attributes:
        epoch: passes over all tasks that are complete.
        position: tasks drawn since; under the curriculum, since the beginning.
        curriculum: what is known of each task; it decides only with `tau2_curriculum`.
        reasons: why each task was drawn, when it was drawn last.
    """

    def __init__(self, config: Tau2Config, tasks: Mapping[str, TaskRef]):
        self.config = config
        self.tasks = tasks
        self.curriculum = Curriculum()
        self.epoch = 0
        self.position = 0
        self.reasons: dict[str, ServedRow] = {}
        self._names = list(tasks)
        self._by_domain: dict[str, list[str]] = {}
        for name, task in tasks.items():
            self._by_domain.setdefault(task.domain, []).append(name)
        self._mix = self._new_mix()
        self._orders: dict[str, tuple[int, list[str]]] = {}  # {domain: (its epoch, the order of its tasks in that)}
        self._versions = _versions(self._by_domain)
        self._successes = prefixes.load(config.prefix_starts, tasks.keys(), self._versions)

    def _new_mix(self) -> Mix | None:
        """None: every task is drawn equally often, whatever its domain."""
        if not self.config.domain_weights:
            return None
        sizes = {domain: len(names) for domain, names in self._by_domain.items()}
        return Mix(shares(self.config.domain_weights, sizes))

    def draw(self, count: int) -> list[str]:
        """The names of the next `count` tasks."""
        drawn: list[str] = []
        while len(drawn) < count:
            if self.config.curriculum:
                drawn += self._by_curriculum(count, count - len(drawn))
            elif self._mix is not None:
                drawn.append(self._of_domain(self._mix))
            else:
                drawn += self._in_order(count - len(drawn))
        return drawn

    def _by_curriculum(self, count: int, missing: int) -> list[str]:
        rng = random.Random(f"{self.config.seed}:{self.epoch}:{self.position}")
        self.position += count
        drawn: list[str] = []
        if self._mix is None:
            drawn = self.curriculum.draw(self._names, missing, rng)
        else:
            for domain, quota in self._mix.quotas(missing).items():
                while quota > 0:
                    part = self.curriculum.draw(self._by_domain[domain], quota, rng)
                    drawn += part
                    quota -= len(part)
            rng.shuffle(drawn)
        for name in drawn:
            pool, rate, weight = self.curriculum.pool(name), self.curriculum.rate(name), self.curriculum.weight(name)
            self.reasons[name] = {"by": "curriculum", "pool": pool, "rate": rate, "weight": weight}
        return drawn

    def _of_domain(self, mix: Mix) -> str:
        """The next task by shares: of each domain, each task once in shuffled order, and then anew.

        `epoch` and `position` count draws, as if every task were drawn equally often.
        """
        domain = mix.next()
        names = self._by_domain[domain]
        epoch, position = divmod(mix.drawn[domain] - 1, len(names))
        order = self._orders.get(domain)
        if order is None or order[0] != epoch:
            rng = random.Random(f"{self.config.seed}:{domain}:{epoch}")
            order = epoch, rng.sample(names, len(names))
            self._orders[domain] = order
        self.position += 1
        if self.position >= len(self._names):
            self.epoch += 1
            self.position = 0
        self.reasons[order[1][position]] = {"by": "shares", "epoch": epoch, "place": position}
        return order[1][position]

    def _in_order(self, missing: int) -> list[str]:
        """At most `missing` tasks: what is left of this epoch."""
        order = random.Random(f"{self.config.seed}:{self.epoch}").sample(self._names, len(self._names))
        drawn = order[self.position : self.position + missing]
        for place, name in enumerate(drawn, self.position):
            self.reasons[name] = {"by": "order", "epoch": self.epoch, "place": place}
        self.position += len(drawn)
        if self.position >= len(self._names):
            self.epoch += 1
            self.position = 0
        return drawn

    def prefix(self, name: str, group: int) -> list[MessageRecord] | None:
        """The messages behind which group number `group` begins; None for the beginning of the conversation.

        About every other group of a task that the policy never solves begins within a recorded success of it.
        """
        successes = self._successes.get(name)
        if not self.config.curriculum or not successes or self.curriculum.pool(name) != "hopeless":
            return None
        rng = random.Random(f"{self.config.seed}:prefix:{group}")
        if rng.random() < 0.5:
            return None
        return prefixes.cut(rng.choice(successes), rng)

    def observe(self, name: str, successes: int, attempts: int, *, eased: bool) -> None:
        """Count the outcome of one group. A group that began within a success (`eased`) says nothing of the task
        itself.
        """
        if name in self.tasks and not eased:
            self.curriculum.observe(name, successes, attempts)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to draw on as this one would: JSON."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "curriculum": self.curriculum.state_dict(),
            "tasks": self._fingerprint(),
            "task_sets": self._versions,
            **({} if self._mix is None else {"drawn": self._mix.drawn}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Where the tasks or shares are others by now, their order begins anew, with a
        warning.

        Raises:
            KeyError, TypeError, ValueError: it is no such state, or one of another version of a task set.
        """
        for name, sha256 in state.get("task_sets", {}).items():
            if self._versions.get(name, sha256) != sha256:
                raise ValueError(
                    f"it is of another version of the task set {name} (sha256 {sha256}, not {self._versions[name]}): "
                    "train on that version, or start anew"
                )
        counters = {name: whole_number(name, state[name]) for name in _COUNTERS}
        self.curriculum.load_state_dict(state["curriculum"])
        self.epoch = counters["epoch"]
        self.position = counters["position"]
        if state.get("tasks", self._fingerprint()) != self._fingerprint():  # states before version 2 have none
            log.warning(
                "the tasks are not those of the saved state: their order begins anew, what is known of each task stays"
            )
            self.position = 0
            self._mix = self._new_mix()
        elif self._mix is not None:
            self._mix.drawn = {domain: whole_number(domain, state["drawn"][domain]) for domain in self._mix.drawn}

    def _fingerprint(self) -> str:
        """Of the tasks, and of their shares where there are any."""
        lines = list(self._names)
        if self._mix is not None:
            lines += [f"{domain} {share!r}" for domain, share in self._mix.shares.items()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _versions(domains: Iterable[str]) -> dict[str, str]:
    """{task set: what tells its versions apart} of those of the domains that are sets."""
    opened = {domain: openings.opened(domain) for domain in domains}
    return {domain: found.manifest.sha256 for domain, found in opened.items() if found is not None}


def whole_number(name: str, value: object) -> int:
    """A counter of a saved state.

    Raises:
        ValueError: it is no whole number, or below 0; names it.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, and not a whole number")
    return value
