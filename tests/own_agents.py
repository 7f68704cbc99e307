"""Agents of one's own for the tests: those of docs/extending.md, and what a policy says to them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fake_policy import teacher_reply

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")


def write_modules(folder: Path) -> None:
    """The page's modules, as files."""
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL):
        (folder / f"{name}.py").write_text(code)


def on_path(folder: Path):
    """The page's modules can be imported while this generator is open."""
    write_modules(folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [path.stem for path in folder.glob("*.py")]:  # the next folder has its own
        sys.modules.pop(name, None)


THOUGHT = "I look it up, then I say it."


def planning_reply(flaws=0.0):
    """The teacher to an agent that asks for a plan first."""
    teacher = teacher_reply(flaws)
    from planner import DO, PLAN

    def turn(role, text):
        return f"<|im_start|>{role}\n{text}<|im_end|>\n"

    between = turn("user", PLAN) + turn("assistant", THOUGHT) + turn("user", DO)

    def reply(prompt, n):
        if prompt.endswith(turn("user", PLAN) + "<|im_start|>assistant\n"):
            return THOUGHT
        return teacher(prompt.replace(between, ""), n)

    return reply


def advised_reply():
    """The teacher to an agent that asks an adviser first."""
    teacher, advice = teacher_reply(), f"<|im_start|>user\nAdvice: {THOUGHT}<|im_end|>\n"

    def reply(prompt, n):
        if prompt.startswith("<|im_start|>system\nYou advise"):
            return THOUGHT
        return teacher(prompt.replace(advice, ""), n)

    return reply
