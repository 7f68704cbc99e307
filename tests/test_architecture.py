"""The house as docs/architecture.md draws it: who may import whom, and the two files that stand between us and what is not ours."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "slime_tau2"
BORDER = {"types", "errors", "config", "hosts", "options", "plugins", "seeds", "masks", "files", "tokenizer", "looplag"}
MAY_IMPORT = {
    **{name: {"errors"} for name in sorted(BORDER - {"config", "tokenizer"})},
    "tokenizer": {"errors", "files"},
    "config": {"hosts", "options", "plugins"},
    "guards": set(),
    "vintage": {"errors"},
    "bench": {"vintage", "guards", "errors"},
    "rewards": {"errors", "types", "masks"},
    "episode": {*BORDER, "bench", "guards", "rewards", "domains"},
    "domains": {"bench"},
    "data": {*BORDER, "bench", "episode", "domains"},
    "checkpoints": {"errors", "files"},
    "hooks": {*BORDER, "bench", "episode", "rewards", "data"},
}
"""{part: the parts of ours that it may import}; `local`, `evaluation`, `doctor` and the command line stand on top of these."""


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


def test_one_file_stands_between_us_and_what_is_not_ours():
    foreign = {"tau2", "vendor", "slime", "megatron", "sglang"}
    found = {(str(f.relative_to(ROOT)), m.split(".")[0]) for f in ROOT.rglob("*.py") for m, _ in imports(f) if m.split(".")[0] in foreign}
    assert found == {("hooks/compat.py", "slime")}
    by_name = {str(f.relative_to(ROOT)) for f in ROOT.rglob("*.py") if "import_module(" in f.read_text(encoding="utf-8")}
    assert by_name == {"bench/tau2.py", "plugins.py"}, "tau2, under either of its names, and what users bring"


def test_modules_stay_of_one_idea():
    long = {str(f.relative_to(ROOT)): n for f in ROOT.rglob("*.py") if (n := len(f.read_text().splitlines())) > 200}
    assert not long, "a module that outgrows 200 lines has probably grown a second idea"
