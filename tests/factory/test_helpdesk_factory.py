"""The bundled helpdesk's generator as a factory: more of its tasks, none of the 900."""

import hashlib
import json

from slime_tau2 import bench
from slime_tau2.domains.helpdesk import tasks as generator
from slime_tau2.domains.helpdesk.user import HelpdeskUser
from slime_tau2.episode import worlds
from slime_tau2.factory import build, helpdesk

PINNED = "8ba522b11adbad443cbe7682db10843f5799c6228a620c6ed49ea7e92af82ccb"


def test_the_900_are_what_they_were():
    lines = "\n".join(task.model_dump_json() for task in generator.get_tasks())
    tasks = [json.loads(line) for line in lines.splitlines()]
    assert len(tasks) == 900 and len({helpdesk._key(task) for task in tasks}) == 900
    first = hashlib.sha256(json.dumps(generator._generated(), sort_keys=True).encode()).hexdigest()
    assert first == PINNED


def test_none_of_the_900_is_made_again():
    world = worlds.load("helpdesk")
    taken = {helpdesk._key(task.model_dump(mode="json")) for task in world.tasks.values()}
    made = [build.make("helpdesk", 300, seed) for seed in (1, 2)]
    for tasks in made:
        assert not taken & {helpdesk._key(m.task) for m in tasks}
        assert {m.draft.families[0] for m in tasks} == set(generator.FAMILIES)
    assert len({m.draft.key for m in made[0]} & {m.draft.key for m in made[1]}) < 100


def test_the_domains_own_user_reads_a_made_task():
    for made in build.make("helpdesk", 12, 3):
        task = bench.Task.model_validate(made.task)
        facts = generator.facts_of(task)
        assert facts.family == made.draft.families[0] and facts.ident in made.draft.owner
        opening = HelpdeskUser(facts, seed=1).reply("Hi! How can I help you today?", [])
        assert opening.content
