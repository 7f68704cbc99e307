"""The pages: links lead somewhere, and every command in them exists with the options that it is given."""

import importlib
import re

import pytest
import typer
from documented import NAMES, PAGES, ROOT, commands

from slime_tau2.cli import app
from slime_tau2.config import Tau2Config

NO_OPTIONS = ("tau2_eval", "tau2_data", "tau2_rl_train", "tau2_rl_database", "tau2_sft_train")
"""A data set of slime's, a folder of tau2's, and AReaL's files."""
SLIMES_OWN = ("train.py", "train_async.py")
UsageError = typer.BadParameter.__base__  # of click, or of the copy of click that a typer may carry
COMMANDS = typer.main.get_command(app).commands


def anchors(page):
    """GitHub's anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page):
    for words in (c.words for c in commands(page)):
        name = words[0]
        if name == "slime-tau2":
            check_command(page, words[1:])
        elif name == "bash" and len(words) > 1 and words[1].endswith(".sh"):
            assert (ROOT / words[1]).exists(), f"{page.name}: {words}"
            for n, word in enumerate(words):
                if word == "--profile":
                    assert (ROOT / "launch" / "profiles" / f"{words[n + 1]}.sh").exists() or words[n + 1] == "NAME", (
                        f"{page.name}: {words}"
                    )
        elif name.startswith("python") and len(words) > 1 and words[1].endswith(".py") and words[1] not in SLIMES_OWN:
            assert (ROOT / words[1]).exists(), f"{page.name}: {words}"


def check_command(page, words):
    """The command takes these words as they stand, with all that it requires among them."""
    if words[0].startswith("-"):
        return
    assert words[0] in COMMANDS, f"{page.name}: slime-tau2 {words[0]}"
    try:
        COMMANDS[words[0]].make_context(words[0], list(words[1:]))
    except UsageError as error:
        pytest.fail(f"{page.name}: slime-tau2 {' '.join(words)}: {error.format_message()}")
    for n, word in enumerate(words[1:], 1):
        if word == "--set" and words[0] in ("eval", "collect", "rft") and "=" in words[n + 1]:
            assert words[n + 1].partition("=")[0] in (*Tau2Config.model_fields, "KEY"), f"{page.name}: {words[n + 1]}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_of_hooks_lead_to_them(page):
    """`--…-path slime_tau2.…` names something that slime can call."""
    for path in re.findall(r"--[\w-]+-path\s+(slime_tau2\.[\w.]+)", page.read_text(encoding="utf-8")):
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_options_exist(page):
    """`tau2_…` in text and YAML is an option of Tau2Config."""
    known = {f"tau2_{f}" for f in Tau2Config.model_fields}
    for word in re.findall(r"(?<![\w/.])tau2_[a-z_]+[a-z](?![\w/])", page.read_text(encoding="utf-8")):
        assert word in known or word in NO_OPTIONS, f"{page.name}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_and_tests_that_are_named_exist(page):
    """`tests/….py::test_…` shows something, and `slime_tau2/….py` is where it is said to be."""
    for path, name in re.findall(
        r"\b((?:tests|slime_tau2|launch)/[\w/]+\.(?:py|sh))(?:::(\w+))?", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / path).exists(), f"{page.name}: {path}"
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{page.name}: {path}::{name}"


def test_the_picture_is_what_its_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "bench")
    import picture

    assert picture.FILE.read_text(encoding="utf-8") == picture.picture(), "run python tests/bench/picture.py"


@pytest.mark.parametrize("command", ["eval --nonsense", "eval --domain airline", "nonsense"])
def test_a_commands_check_can_fail(tmp_path, command):
    page = tmp_path / "x.md"
    page.write_text(f"```bash\nslime-tau2 {command}\n```\n")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=r"x\.md: slime-tau2 \w+"):
        test_commands_exist(page)


def test_the_checks_can_fail(tmp_path):
    page = tmp_path / "x.md"
    page.write_text("[a](b.md) `tau2_nope` `tests/test_docs.py::test_nothing`\n")
    for check in (
        test_links_lead_somewhere,
        test_options_exist,
        test_files_and_tests_that_are_named_exist,
    ):
        with pytest.raises(AssertionError):
            check(page)
