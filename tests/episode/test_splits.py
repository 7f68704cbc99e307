"""`train`, `val`, `train+val` and `extra`: what is in them, and that no task of `val` has a twin in `train`."""

from collections import Counter
from types import SimpleNamespace

import pytest

from slime_tau2 import bench
from slime_tau2.episode import splits, worlds

AIRLINE_VAL = ["5", "28", "36", "40", "46", "49"]
RETAIL_VAL = ["20", "21", "22", "46", "47", "48", "50", "63", "75", "76", "88", "103", "104", "105", "107"]


@pytest.mark.parametrize(
    "domain, train, val", [("airline", 24, 6), ("retail", 59, 15), ("telecom", 59, 15), ("helpdesk", 600, 150)]
)
def test_val_is_a_fifth_of_tau2s_train(domain, train, val):
    world = worlds.load(domain)
    both = world.task_ids("train+val")
    assert (len(world.task_ids("train")), len(world.task_ids("val"))) == (train, val)
    assert both == bench.task_splits(domain)["train"] and {*world.task_ids("train"), *world.task_ids("val")} == set(
        both
    )
    assert not {*both} & {*world.task_ids("test")}


def test_which_tasks_are_in_val_is_fixed():
    """For every seed and on every machine."""
    assert worlds.load("airline").task_ids("val") == AIRLINE_VAL and worlds.load("retail").task_ids("val") == RETAIL_VAL
    kinds = Counter(t.split("]")[0].strip("[") for t in worlds.load("telecom").task_ids("val"))
    assert kinds == {"mobile_data_issue": 8, "mms_issue": 4, "service_issue": 3}
    families = Counter(t.split("_")[0] for t in worlds.load("helpdesk").task_ids("val"))
    assert families == {"orders": 52, "refunds": 47, "phones": 51}


@pytest.mark.parametrize("domain", ["airline", "retail"])
def test_no_val_task_touches_what_a_train_task_touches(domain):
    """Nor is the user of a val task the user of a train task, as far as the solutions name users."""
    world = worlds.load(domain)

    def touched(task_id):
        actions = world.task(task_id).evaluation_criteria.actions or []
        return {v for a in actions for k, v in a.arguments.items() if k in ("user_id", "order_id", "reservation_id")}

    train = set().union(*(touched(t) for t in world.task_ids("train")))
    assert train and not [t for t in world.task_ids("val") if touched(t) & train]
    known = {world.task(t).user_scenario.instructions.known_info for t in world.task_ids("train")}
    assert not [t for t in world.task_ids("val") if world.task(t).user_scenario.instructions.known_info in known]


def test_telecoms_fault_sets_do_not_straddle():
    world = worlds.load("telecom")
    faults = {
        name: {splits.fault_set(world.task(t)) for t in world.task_ids(name)}
        for name in ("train", "val", "test", "extra")
    }
    assert (
        not faults["val"] & (faults["train"] | faults["test"] | faults["extra"])
        and not faults["extra"] & faults["test"]
    )


def tasks(ids, known="{}"):
    """{id: a task whose user knows `known`, with the id in it where it has room}."""
    return {
        t: SimpleNamespace(
            id=t,
            initial_state=None,
            evaluation_criteria=None,
            user_scenario=SimpleNamespace(instructions=SimpleNamespace(known_info=known.format(t))),
        )
        for t in ids
    }


def test_tasks_that_are_added_move_the_boundary_only():
    some, more = [f"t{n}" for n in range(100)], [f"t{n}" for n in range(110)]
    before = set(splits.complete("own", {"train": some}, tasks(some))["val"])
    after = set(splits.complete("own", {"train": more}, tasks(more))["val"])
    assert len(before) == 20 and len(after) == 22 and len(before - after) <= 4


def test_small_domains_and_domains_with_a_val_of_their_own():
    six = [f"t{n}" for n in range(6)]
    made = splits.complete("own", {"train": six, "test": ["x"]}, tasks([*six, "x"]))
    assert (len(made["train"]), len(made["val"]), made["train+val"], made["test"]) == (5, 1, six, ["x"])
    own = splits.complete("own", {"train": six[:4], "val": six[4:]}, tasks(six))
    assert (own["train"], own["val"], own["train+val"]) == (six[:4], six[4:], six)
    alike = splits.complete("own", {"train": six}, tasks(six, "the same caller"))
    assert "val" not in alike and alike["train"] == six, (
        "all of them are one group, which would not leave a task to train on"
    )
    assert splits.complete("own", {"train": ["t0"]}, tasks(six))["train"] == ["t0"]
    assert splits.complete("own", {"base": six}, tasks(six)) == {"base": six}
