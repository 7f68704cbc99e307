"""The tests that skip where their host is absent must not rot there: they are collected, and every name of ours in them
is there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent
SKIPPING = [TESTS / name for name in ("upstream", "megatron", "sglang_cpu")]
SKIPPING_FILES = sorted(f for folder in SKIPPING for f in folder.rglob("*.py"))
UNSEEN = [*SKIPPING_FILES, *(TESTS / "bench").glob("*.py")]
"""What no run of the fast tier executes: there, calls are checked too."""
FILES = sorted(f for f in TESTS.rglob("*.py"))
HELPERS: dict[str, list[Path]] = {}
for _file in FILES:
    HELPERS.setdefault(_file.stem, []).append(_file)


def relative(file):
    return str(file.relative_to(TESTS))


def test_each_file_yields_tests_or_says_why_it_skips():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-rs",
        "-m",
        "upstream",
        "-p",
        "no:cacheprovider",
        *map(str, SKIPPING),
    ]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    for file in (f for f in SKIPPING_FILES if f.stem.startswith("test_")):
        name = re.escape(f"tests/{relative(file)}")
        assert re.search(rf"^{name}: [1-9]|^{name}::|^SKIPPED \[\d+\] {name}:\d+: \w+", done.stdout, re.MULTILINE), (
            f"{name}\n{done.stdout}"
        )
    assert not re.search(r"\berrors?\b", done.stdout.splitlines()[-1])


def names_of(tree):
    """The names that a file of tests binds at its top level, whatever it is nested in but functions and classes."""
    for node in tree.body if isinstance(tree, ast.Module) else []:
        yield from _bound(node)


def _bound(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((a.asname or a.name).split(".")[0] for a in node.names)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def helper(module, file):
    """The file of tests that `import module` means in `file`: its neighbour, one at the top, else the only one of that
    name.
    """
    found = HELPERS.get(module, [])
    near = [f for f in found if f.parent in (file.parent, TESTS)]
    return next(iter(near or found), None)


def ours(path):
    """What a dotted path of ours names; AttributeError or ImportError where it names nothing."""
    module, rest, at = "slime_tau2", path.split(".")[1:], importlib.import_module("slime_tau2")
    for name in rest:
        if isinstance(at, ModuleType) and not hasattr(at, name):
            importlib.import_module(f"{module}.{name}")
        at, module = getattr(at, name), f"{module}.{name}"
    return at


def broken_names(file):
    """Each name of ours that a file uses and that is not there, with its line: imports, attributes of our modules,
    dotted paths in texts.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules, bound = {}, [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    bound += [
        a.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for a in [*n.posonlyargs, *n.args, *n.kwonlyargs]
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "slime_tau2":
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                try:
                    modules[alias.asname or alias.name] = ours(path)
                except (ImportError, AttributeError):
                    yield f"{path}, line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module and (there := helper(node.module, file)):
            known = set(names_of(ast.parse(there.read_text(encoding="utf-8"))))
            yield from (f"{node.module}.{a.name}, line {node.lineno}" for a in node.names if a.name not in known)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"slime_tau2(\.\w+)+", node.value)
        ):
            try:
                ours(node.value)
            except (ImportError, AttributeError):
                yield f"{node.value}, line {node.lineno}"
    for name in set(modules) & set(bound):
        del modules[name]  # something else goes by that name as well
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and isinstance(modules.get(node.value.id), ModuleType)
        ):
            if isinstance(node.ctx, ast.Load) and not hasattr(modules[node.value.id], node.attr):
                yield f"{node.value.id}.{node.attr}, line {node.lineno}"
        if file in UNSEEN and isinstance(node, ast.Call) and (called := _called(node, modules)) is not None:
            yield from _misfit(node, called)


def _called(node, modules):
    func = node.func
    if isinstance(func, ast.Name):
        found = modules.get(func.id)
    elif (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and isinstance(modules.get(func.value.id), ModuleType)
    ):
        found = getattr(modules[func.value.id], func.attr, None)
    else:
        return None
    return found if callable(found) and getattr(found, "__module__", "").startswith("slime_tau2") else None


def _misfit(node, called):
    """A call whose arguments the function no longer takes."""
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        return
    try:
        inspect.signature(called).bind(*node.args, **{k.arg: k.value for k in node.keywords})
    except TypeError as error:
        yield f"{ast.unparse(node.func)}: {error}, line {node.lineno}"
    except ValueError:
        return


SELF_TEST = """
from slime_tau2.episode.policy import PolicyClient, Gone
from slime_tau2 import bench, no_such_module
from fake_policy import FakePolicy, gone_too
PATH = "slime_tau2.hooks.generate.generate"
OLD = "slime_tau2.hooks.generate.generated"
def test():
    from slime_tau2.hooks import filters, generate as g
    filters.no_such_filter
    filters.buffer_filter(None, None, [], 1)
    filters.buffer_filter(None, [])
    from slime_tau2.hooks.samples import flatten as f
    f([], deep=True)
"""


def test_a_broken_name_is_found(tmp_path, monkeypatch):
    file = tmp_path / "test_broken.py"
    file.write_text(SELF_TEST)
    monkeypatch.setitem(globals(), "UNSEEN", [file])
    found = " | ".join(broken_names(file))
    for broken in (
        "policy.Gone, line 2",
        "slime_tau2.no_such_module, line 3",
        "fake_policy.gone_too, line 4",
        "generate.generated, line 6",
        "filters.no_such_filter, line 9",
        "filters.buffer_filter: missing a required argument: 'buffer', line 11",
        "f: got an unexpected keyword argument 'deep', line 13",
    ):
        assert broken in found, found
    assert found.count(" | ") == 6


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_every_name_of_ours_is_there(file):
    assert not list(broken_names(file))
