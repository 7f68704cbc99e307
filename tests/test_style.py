"""What the linters do not hold: who is called by position, and where the formatter is switched off."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "slime_tau2").rglob("*.py"))
MOST_BY_POSITION, MOST_FIELDS_BY_POSITION = 5, 4
"""A reader of a call still knows which value is which."""
NAMED_BY_OTHERS = {*(f.name for f in (ROOT / "slime_tau2").glob("cli*.py")), "stand_ins.py", "shapes.py"}
"""Commands, whose options typer reads from the signature, and the shapes of slime's and tau2's own classes."""


def by_position(function):
    """The parameters of a function that a caller may give by position, but for `self` and `cls`."""
    names = [a.arg for a in [*function.args.posonlyargs, *function.args.args]]
    return [n for n in names if n not in ("self", "cls")]


def is_dataclass(node):
    """(whether it is a dataclass, whether its fields go by name)."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")) == "dataclass":
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            return True, any(k.arg == "kw_only" and getattr(k.value, "value", False) for k in keywords)
    return False, False


def apart(field):
    """Whether a field is none of the constructor's: `field(init=False)`, or a ClassVar."""
    keywords = field.value.keywords if isinstance(field.value, ast.Call) else []
    return "ClassVar" in ast.unparse(field.annotation) or any(
        k.arg == "init" and getattr(k.value, "value", True) is False for k in keywords
    )


def fields_by_position(node):
    """The fields of a dataclass that come before `_: KW_ONLY` and are the constructor's."""
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            if ast.unparse(field.annotation) == "KW_ONLY":
                return
            if not apart(field):
                yield field


def packs(source):
    """What takes more values by position than anybody can tell apart: functions, and dataclasses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(by_position(node)) > MOST_BY_POSITION:
            yield node.name
        if isinstance(node, ast.ClassDef):
            dataclass, by_name = is_dataclass(node)
            fields = list(fields_by_position(node))
            if dataclass and not by_name and len(fields) > MOST_FIELDS_BY_POSITION:
                yield node.name


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_many_values_are_passed_by_name(file):
    if file.name not in NAMED_BY_OTHERS:
        assert list(packs(file.read_text(encoding="utf-8"))) == []


def test_a_pack_is_seen():
    assert list(packs("def f(self, a, b, c, d, e, f): pass")) == ["f"]
    assert list(packs("def f(self, a, b, *, c, d, e, f): pass")) == []
    wide = "    a: int\n    b: int\n    c: int\n    d: int\n    e: int\n"
    assert list(packs(f"@dataclass(frozen=True)\nclass A:\n{wide}")) == ["A"]
    assert list(packs(f"@dataclass(kw_only=True)\nclass A:\n{wide}")) == []
    assert list(packs(f"@dataclass\nclass A:\n    z: int\n    _: KW_ONLY\n{wide}")) == []
    assert list(packs("@dataclass\nclass A:\n" + wide.replace("int\n", "int = field(default=0, init=False)\n"))) == []


def test_the_formatter_is_hardly_ever_switched_off():
    skipped = [
        f for f in (*FILES, *(ROOT / "tests").rglob("*.py")) if "# fmt: " + "skip" in f.read_text(encoding="utf-8")
    ]
    assert len(skipped) <= 5, skipped
