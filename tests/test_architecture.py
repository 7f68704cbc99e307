"""The house as docs/architecture.md draws it: who may import whom, and the two files that stand between us and what is
not ours.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "slime_tau2"
BORDER = {
    "types",
    "limits",
    "terminations",
    "ledger",
    "record",
    "errors",
    "config",
    "hosts",
    "options",
    "plugins",
    "seeds",
    "silence",
    "masks",
    "files",
    "tokenizer",
    "looplag",
    "manifest",
    "traits",
}
MAY_IMPORT = {
    **{name: set() for name in ("hosts", "limits", "looplag", "masks", "seeds", "silence", "terminations", "traits")},
    **{name: {"errors"} for name in ("files", "plugins")},
    "options": {"errors", "files"},
    "errors": {"terminations"},
    "record": {"terminations"},
    "types": {"terminations", "ledger", "record"},
    "ledger": {"errors", "masks"},
    "tokenizer": {"errors", "files"},
    "manifest": {"errors", "files"},
    "config": {"hosts", "options", "plugins", "limits", "tasksets"},
    "guards": set(),
    "vintage": {"errors"},
    "bench": {"vintage", "guards", "errors", "terminations", "traits"},
    "tasksets": {"errors", "files", "options", "traits", "bench", "domains"},
    "dumps": {"errors", "files", "record"},
    "rewards": {"types", "terminations", "traits"},
    "episode": {*BORDER, "bench", "guards", "rewards", "domains", "tasksets"},
    "domains": {"bench"},
    "data": {*BORDER, "bench", "domains", "episode", "tasksets"},
    "verification": {"bench", "episode", "tasksets"},
    "factory": {*BORDER, "bench", "domains", "episode", "data", "tasksets", "verification"},
    "checkpoints": {"errors", "files"},
    "schedule": {"config", "errors", "record", "types", "episode", "data", "dumps", "tasksets"},
    "workers": BORDER,
    "viewer": {"errors"},
    "hooks": {*BORDER, "bench", "data", "dumps", "episode", "rewards", "schedule", "workers"},
    "local": {*BORDER, "hooks"},
    "evaluation": {
        *BORDER,
        "bench",
        "rewards",
        "episode",
        "data",
        "local",
        "tasksets",
        "verification",
        "factory",
        "workers",
        "viewer",
    },
    "doctor": {*BORDER, "vintage", "episode", "evaluation", "hooks"},
    "experiments": {
        *BORDER,
        "bench",
        "domains",
        "dumps",
        "episode",
        "schedule",
        "data",
        "hooks",
        "local",
        "evaluation",
    },
    "rollouts": {*BORDER, "dumps", "hooks", "viewer"},
    "cli_rollouts": {"errors", "rollouts", "viewer"},
    "cli_options": {*BORDER, "evaluation", "experiments"},
    "cli_data": {*BORDER, "vintage", "bench", "data", "evaluation", "tasksets"},
    "cli_collect": {*BORDER, "cli_data", "data", "episode", "factory", "evaluation", "tasksets"},
    "cli_tasks": {*BORDER, "bench", "data", "episode", "tasksets", "verification", "factory"},
    "cli_evaluation": {*BORDER, "evaluation", "experiments", "factory"},
    "cli": {
        *BORDER,
        "vintage",
        "cli_options",
        "cli_collect",
        "cli_data",
        "cli_tasks",
        "cli_evaluation",
        "cli_rollouts",
        "local",
        "experiments",
        "checkpoints",
        "doctor",
    },
}
"""{part: the parts of ours that it may import}; each part has its line, and the lines have no circle."""


def imports(file):
    """(module, line) of each import in a file, within functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "slime_tau2"
            yield from ((f"slime_tau2.{a.name}" if whole else node.module, node.lineno) for a in node.names)


def part(file):
    first, *rest = file.relative_to(ROOT).parts
    return first if rest else first.removesuffix(".py")


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_who_may_import_whom(name):
    files = [f for f in ROOT.rglob("*.py") if part(f) == name]
    assert files
    for file in files:
        for module, line in imports(file):
            first, _, rest = module.partition(".")
            if first == "slime_tau2" and rest.split(".")[0] not in ("", name):
                assert rest.split(".")[0] in MAY_IMPORT[name], f"{file.relative_to(ROOT)}, line {line} imports {module}"


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_who_may_import_does(name):
    """Each grant is used; the border is one grant where it is given whole."""
    used = {
        module.split(".")[1]
        for file in ROOT.rglob("*.py")
        if part(file) == name
        for module, _ in imports(file)
        if module.startswith("slime_tau2.")
    }
    granted = MAY_IMPORT[name]
    if granted >= BORDER:
        assert used & BORDER
        granted = granted - BORDER
    assert not granted - used, f"{name} may import what it never does"


def circle(graph):
    """The nodes of {node: what it points to} from which a circle can be reached; [] where there is none."""
    left = {node: set(to) - {node} for node, to in graph.items()}
    while ends := [node for node, to in left.items() if not to & left.keys()]:
        for node in ends:
            del left[node]
    return sorted(left)


def modules():
    """{module: the modules of ours that it imports, within functions too}."""
    names = {}
    for file in ROOT.rglob("*.py"):
        names[".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")] = file
    out = {name: set() for name in names}
    for name, file in names.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                out[name] |= {a.name for a in node.names} & names.keys()
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports by a relative name, which this test does not follow"
                for a in node.names:
                    whole = f"{node.module}.{a.name}"
                    out[name] |= {whole if whole in names else node.module} & names.keys()
    return out


def test_every_part_has_its_line_and_the_lines_have_no_circle():
    assert {part(f) for f in ROOT.rglob("*.py")} == {*MAY_IMPORT, "__init__"}
    assert circle(MAY_IMPORT) == []


def test_no_module_reaches_itself():
    found = modules()
    assert "slime_tau2.experiments.pipeline" in found["slime_tau2.experiments.quickstart"], "within a function, too"
    assert circle(found) == []
    assert circle({**found, "slime_tau2.errors": {"slime_tau2.cli"}}), "an arrow up would be seen"


def test_one_file_stands_between_us_and_what_is_not_ours():
    foreign = {"tau2", "vendor", "slime", "megatron", "sglang"}
    found = {
        (str(f.relative_to(ROOT)), m.split(".")[0])
        for f in ROOT.rglob("*.py")
        for m, _ in imports(f)
        if m.split(".")[0] in foreign
    }
    assert found == {("hooks/compat.py", "slime")}
    by_name = {
        str(f.relative_to(ROOT)) for f in ROOT.rglob("*.py") if "import_module(" in f.read_text(encoding="utf-8")
    }
    tau2 = {"bench/tau2.py", "bench/deferred.py"}
    assert by_name == {*tau2, "plugins.py"}, "tau2, under either of its names, and what users bring"
