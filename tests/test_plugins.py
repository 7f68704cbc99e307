"""What users bring by import path: an error begins with the option or the trait that holds the path, as one looks it up."""

from argparse import Namespace

import pytest

from slime_tau2 import plugins, traits
from slime_tau2.config import Tau2Config
from slime_tau2.data import teacher_traces
from slime_tau2.episode import worlds
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.users import DomainUser
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.filters import keeps
from slime_tau2.hooks.training_reward import training_reward


def error(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def test_options_are_named_as_they_are_written():
    config = Tau2Config.from_mapping({"user": "absent_module:User", "shaping": "json:absent"}, "test")
    assert error(Harness(config).user).startswith("tau2_user: no module absent_module;")
    assert error(lambda: training_reward(config, Sample(), 1.0)).startswith("tau2_shaping = json:absent: ")
    assert error(lambda: plugins.import_all(["absent_module"])).startswith("tau2_plugins: no module absent_module;")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("absent_module.keep", ": no module absent_module;"),
        ("json.absent", " = json:absent: "),
        ("keep", " = :keep: no module before the name"),
    ],
)
def test_slimes_option_is_named_as_slime_has_it(path, said):
    args = Namespace(dynamic_sampling_filter_path=path)
    assert error(lambda: keeps(args, [])).startswith(f"--dynamic-sampling-filter-path{said}")


def test_traits_are_named_with_their_domain(monkeypatch):
    broken = traits.Traits(scripted_user="absent_module:User", teacher="absent_module:Teacher")
    monkeypatch.setitem(traits._table, "helpdesk", broken)
    world = worlds.load("helpdesk")
    task = next(iter(world.tasks.values()))
    user = DomainUser()
    assert error(lambda: user.start(world, task, world.environments.fresh(), [], 1)).startswith(
        "scripted_user of helpdesk: no module absent_module;"
    )
    assert error(
        lambda: teacher_traces.collect(1, flaws=0.0, seed=1, split="train", advance=lambda n, text: None)
    ).startswith("teacher of helpdesk: no module absent_module;")
