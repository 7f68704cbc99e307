"""The table of what is peculiar to a domain decides where no code names the domain."""

from types import SimpleNamespace

import pytest

from slime_tau2 import bench, traits
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.data import teacher_traces
from slime_tau2.domains.helpdesk import MAX_STEPS
from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.episode import splits
from slime_tau2.errors import BenchDataError


def test_files_are_where_the_traits_say(monkeypatch):
    assert domain_dir("telecom-workflow") == domain_dir("telecom_small") == domain_dir("telecom")
    assert domain_dir("a-b_c").name == "a-b_c", "a name is no path to another domain"
    monkeypatch.setitem(traits._table, "a-b_c", traits.Traits(files_of="airline"))
    assert domain_dir("a-b_c") == domain_dir("airline")


def test_a_domain_that_one_vintage_has_is_refused_by_its_name(monkeypatch):
    monkeypatch.setitem(traits._table, "elsewhere", traits.Traits(vintage="v9"))
    with pytest.raises(BenchDataError, match=r"unknown domain 'elsewhere' \(only tau2 v9 has it; this is "):
        bench.check_domain("elsewhere")
    assert traits.of("banking_knowledge").vintage


def test_tasks_about_one_record_stay_together_if_the_traits_name_the_argument(monkeypatch):
    def task(number):
        action = SimpleNamespace(arguments={"locker": number // 2, "how": "open"})
        return SimpleNamespace(
            id=f"t{number}",
            initial_state=None,
            evaluation_criteria=SimpleNamespace(actions=[action]),
            user_scenario=SimpleNamespace(instructions=SimpleNamespace(known_info=f"{number}")),
        )

    tasks = {f"t{n}": task(n) for n in range(40)}

    def parted():
        val = set(splits.complete("own", {"train": list(tasks)}, tasks, "lockers_by_row")["val"])
        assert len(val) == 8
        return [n for n in range(0, 40, 2) if (f"t{n}" in val) != (f"t{n + 1}" in val)]

    assert parted()
    monkeypatch.setitem(traits._table, "lockers_by_row", traits.Traits(records=("locker",)))
    assert not parted()


def test_the_teachers_episodes_are_as_long_as_its_domain_says(monkeypatch):
    assert traits.of(NAME).teacher_steps == MAX_STEPS
    seen = []
    play = teacher_traces.run_episode

    async def run_episode(*args, limits, **options):
        seen.append(limits.max_steps)
        return await play(*args, limits=limits, **options)

    monkeypatch.setattr(teacher_traces, "run_episode", run_episode)
    brief = traits.Traits(teacher=traits.of(NAME).teacher, scripted_user=traits.of(NAME).scripted_user, teacher_steps=7)
    monkeypatch.setitem(traits._table, NAME, brief)
    teacher_traces.collect(1, flaws=0.0, seed=1, split="train", advance=lambda n, text: None)
    assert seen == [7]
