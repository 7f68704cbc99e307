"""Which task comes next: in shuffled epochs or by curriculum, the same in a run that resumes."""

import json

import pytest

from slime_tau2.config import Tau2Config
from slime_tau2.errors import BenchDataError
from slime_tau2.schedule.order import TaskOrder, training_tasks
from slime_tau2.types import TaskRef

TASKS = {str(t): t for t in (TaskRef("a", str(n)) for n in range(7))}


def test_an_epoch_serves_each_task_once():
    order = TaskOrder(Tau2Config(seed=3), TASKS)
    drawn = order.draw(5) + order.draw(9)
    assert sorted(drawn[:7]) == sorted(drawn[7:]) == sorted(TASKS) and drawn[:7] != drawn[7:]
    assert (order.epoch, order.position) == (2, 0)


@pytest.mark.parametrize("curriculum", [False, True])
def test_a_resumed_order_goes_on_as_the_first_would_have(curriculum):
    config = Tau2Config(seed=5, curriculum=curriculum)
    first, second = TaskOrder(config, TASKS), TaskOrder(config, TASKS)
    for name in first.draw(10):
        first.observe(name, 4 * (name in ("a/1", "a/2")), 8, eased=False)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.draw(12) == first.draw(12) and second.state_dict() == first.state_dict()


def test_what_is_drawn_has_not_moved():
    """A draw is a promise to runs that resume under a later version of this package."""
    names = lambda numbers: [f"a/{n}" for n in numbers]  # noqa: E731
    assert TaskOrder(Tau2Config(seed=1), TASKS).draw(7) == names("5324610")
    assert TaskOrder(Tau2Config(seed=1, curriculum=True), TASKS).draw(7) == names("0156324")


def test_unknown_tasks_and_eased_episodes_teach_the_curriculum_nothing():
    order = TaskOrder(Tau2Config(), TASKS)
    order.observe("b/1", 1, 1, eased=False)
    order.observe("a/1", 1, 1, eased=True)
    assert order.curriculum.counts == {}
    order.observe("a/1", 1, 1, eased=False)
    assert order.curriculum.counts == {"a/1": (1.0, 0.0)}


def test_the_tasks_that_train_are_those_of_the_split(helpdesk):
    tasks = training_tasks(Tau2Config(domains=("helpdesk", "retail"), split="train"))
    assert tasks["helpdesk/orders_3"] == TaskRef("helpdesk", "orders_3")
    assert {t.task_id for t in tasks.values() if t.domain == "helpdesk"} == set(helpdesk.task_ids("train"))
    with pytest.raises(BenchDataError, match="unknown split"):
        training_tasks(Tau2Config(split="nope"))
