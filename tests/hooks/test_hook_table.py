"""docs/hooks.md has a table of all hooks: what launch scripts and docs name is in it, and so is whatever slime could call."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from test_host_shapes import SHAPES

from slime_tau2 import hooks
from slime_tau2.hooks import reducers

ROOT = Path(__file__).parents[2]
COLUMNS = ["component", "option", "path", "in", "out", "runs in", "may assume", "may raise"]


def table():
    """{path: option} of the table in docs/hooks.md."""
    lines = (ROOT / "docs" / "hooks.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0]] == COLUMNS
    of_hooks = [row for row in rows[1:] if len(row) == len(COLUMNS)]
    assert all(all(row) for row in of_hooks), "no cell is empty"
    return {row[2].strip("`"): row[1].strip("`") for row in of_hooks}


def modules():
    for info in pkgutil.iter_modules(hooks.__path__):
        yield importlib.import_module(f"slime_tau2.hooks.{info.name}")


def shape(hook):
    """How slime calls it: whether it awaits it, and with which parameters."""
    names = tuple(p for p in inspect.signature(hook).parameters if p != "kwargs")
    return inspect.iscoroutinefunction(hook), names


def test_every_path_of_the_table_is_there():
    for path in table():
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    "file",
    [*ROOT.glob("launch/**/*.sh"), *ROOT.glob("launch/**/*.yaml"), ROOT / "README.md", *ROOT.glob("docs/*.md")],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_what_launch_scripts_and_docs_name_is_in_the_table(file):
    named = re.findall(r"(?:(--[a-z-]+-path)[ =]+)?(slime_tau2\.hooks\.\w+\.\w+)", file.read_text())
    for option, path in named:
        assert path in table(), f"{file.name} names {path}"
        assert option in ("", table()[path]), f"{file.name} gives {path} to {option}"


def test_whatever_slime_could_call_is_in_the_table():
    """Public functions with the parameters of one of slime's hooks, and the data source."""
    shapes = {shape(hook) for hook in [*SHAPES, reducers.dr_grpo]}
    callable_by_slime = set()
    for module in modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing) and shape(thing) in shapes:
                callable_by_slime.add(f"{module.__name__}.{name}")
            if inspect.isclass(thing) and {"get_samples", "add_samples", "save", "load"} <= vars(thing).keys():
                callable_by_slime.add(f"{module.__name__}.{name}")
    assert callable_by_slime == set(table())


def test_the_grpo_script_gives_every_option_that_it_needs():
    script = (ROOT / "launch" / "grpo.sh").read_text()
    not_given = {option for path, option in table().items() if path not in script}
    assert not_given == {
        "--custom-pg-loss-reducer-function-path",  # Dr.GRPO is a choice (docs/cookbook.md)
        "--rollout-function-path",  # launch/sft.sh gives it
    }
