"""The options of slime_tau2 that a launch is about to use: `python3 effective_options.py FILE [OPTIONS]`.

They come from four places, of which the last that names an option wins, as it does in the job:

1. `--default`: what a launch script fills in where nobody else says anything
2. TAU2_* in the environment, which the job gets too
3. FILE, slime's --custom-config-path
4. `--set`: the profile's and the command line's

Prints assignments for the shell that called it:

    EFFECTIVE_OPTIONS   the file for the job, one option per line; of the environment only paths that are not whole
    OPTION_credit, …    what the job will take for those that a launch script asks about (ASKED)
    EPISODE_OPTIONS     an array, `--set KEY=VALUE` for `slime-tau2 eval`: an episode is played as training plays it

With exit code 2 and one line on stderr it refuses what the hooks would refuse. It asks the package that reads the
options in the job. Where this Python has none, nothing is checked here: grpo.sh asks for the package before it submits,
and `slime-tau2 eval` checks its own options. Without PyYAML only values on one line can be read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

PREFIX = "tau2_"
ASKED = ("credit", "split", "i_know", "thinking", "train_thinking", "workers")
PATHS = ("tau2_agent_prompt", "tau2_prefix_starts")
SETS = ("tau2_domains", "tau2_task_sets")
"""Options in which a value with a / in it, or the bare name of a directory with a manifest, is a task set's path."""
MANIFEST = "manifest.json"
NOT_OF_EPISODES = {
    # `slime-tau2 eval` has options of its own for these, which the launch scripts give
    "domains",
    "task_sets",
    "split",
    "seed",
    "workers",
    "user_base_url",
    "user_model",
    "retail_basis",
    # these are of training alone, and `slime-tau2 eval` refuses them
    "domain_weights",
    "unverified",
    "i_know",
    "curriculum",
    "prefix_starts",
    "shaping",
    "alpha",
    "advantage",
    "credit",
    "credit_discount",
    "overlong",
    "overlong_penalty",
    "log_samples",
    "dump",
    "episode_retries",
}
"""What is no option of how an episode is played: `evaluation.request.NOT_OF_AN_EVALUATION`, and what scripts give."""

Options = dict[str, str]
"""{name: its value as YAML, on one line}."""


class Refused(Exception):
    """An option that cannot be used; the message is one line."""


def read(text: str, source: str) -> Options:
    """The options of a file.

    Raises:
        Refused: it is no YAML, or not of the kind NAME: VALUE.
    """
    try:
        import yaml
    except ImportError:
        return _one_line_each(text, source)
    try:
        values = yaml.safe_load(text)
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise Refused(f"{source}: not YAML of the kind NAME: VALUE")
        return {str(key): _as_yaml(value) for key, value in values.items()}
    except yaml.YAMLError as error:
        raise Refused(f"{source}: not YAML: {' '.join(str(error).split())}") from error


def _as_yaml(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize, allow_unicode=True, sort_keys=False)
    return str(text).rstrip("\n").removesuffix("\n...")


def _one_line_each(text: str, source: str) -> Options:
    """As `read`, without PyYAML."""
    out: Options = {}
    for line in text.splitlines():
        named = re.match(r"([A-Za-z_]\w*):(.*)", line)
        if named is None:
            continue
        value = re.sub(r"(^|\s+)#.*", "", named[2]).strip()
        if not value:
            raise Refused(f"{source}: write the value of {named[1]} on its own line, [a, b] for a list")
        out[named[1]] = value
    return out


def assignments(given: list[str], source: str) -> Options:
    """["NAME=VALUE", …], of several for one name the last."""
    out: Options = {}
    for assignment in given:
        name, _, value = assignment.partition("=")
        out.update(read(f"{name}: {value}", source))
    return out


def whole_paths(options: Options, directory: str) -> Options:
    """The same with whole paths: a job runs in another directory than this shell."""
    out = dict(options)
    for name in PATHS:
        value = out.get(name, "null")
        if value not in ("", "null", "~"):
            out[name] = re.sub(r"""^(["']?)(?:\./)?(?=[^/"'])""", rf"\g<1>{directory}/", value)
    for name in SETS:
        if name in out:
            out[name] = re.sub(r"""[^][,\s"']+""", lambda word: _whole(word[0], directory), out[name])
    return out


def _whole(word: str, directory: str) -> str:
    if word[0] in "/~" or not ("/" in word or _is_set(word, directory)):
        return word
    return os.path.normpath(os.path.join(directory, word))


def _is_set(word: str, directory: str) -> bool:
    """Whether a bare name is a task set's directory, as `tasksets.openings.is_path` sees it from here."""
    if not os.path.isfile(os.path.join(directory, word, MANIFEST)):
        return False
    try:
        from slime_tau2 import traits
    except (ImportError, SyntaxError):  # no package here, or a Python that is too old for it
        return True
    return not traits.known(word)


def of_environment(options: Options, directory: str) -> Options:
    """{option: its value} of TAU2_* that names paths which are not whole, and that nothing above it names."""
    found: Options = {}
    for name in (*PATHS, *SETS):
        value = os.environ.get(name.upper(), "")
        given = {name: f"[{value}]" if name in SETS else value}
        if value and name not in options and whole_paths(given, directory) != given:
            found.update(given)
    return found


def resolved(options: Options, source: str, *, dry_run: bool) -> Mapping[str, Any] | None:
    """{name without tau2_: value} as the hooks resolve them; None where the package is not there.

    Raises:
        Refused: the hooks would refuse them. A dry run imports no plugins.
    """
    try:
        import yaml

        from slime_tau2 import config, errors
        from slime_tau2 import options as reader
    except (ImportError, SyntaxError):  # a Python that is too old for it
        return None
    given = {k[len(PREFIX) :]: yaml.safe_load(v) for k, v in options.items() if k.startswith(PREFIX)}
    try:
        sources = ((config.ENVIRONMENT, config.from_environment()), (source, given))
        if dry_run:
            return reader.build(config.Tau2Config, sources, PREFIX).model_dump(mode="json")
        return config.Tau2Config.resolve(*sources).model_dump(mode="json")
    except errors.UserError as error:
        raise Refused(" ".join(str(error).split())) from error


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--default", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="sets")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args(arguments)
    source = f"{given.file} with the profile and --set"
    try:
        with open(given.file, encoding="utf-8") as file:
            options = {**read(file.read(), source), **assignments(given.sets, source)}
        for name, value in assignments(given.default, source).items():
            if name.upper() not in os.environ and options.get(name, "null") == "null":
                options[name] = value
        options = whole_paths({**options, **of_environment(options, os.getcwd())}, os.getcwd())
        with contextlib.redirect_stdout(sys.stderr):  # plugins may print; what stands on stdout is a program
            values = resolved(options, source, dry_run=given.dry_run)
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: TAU2_CONFIG={given.file} cannot be read: {error}", file=sys.stderr)
        return 2
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if values is None:
        values = {k[len(PREFIX) :]: v.strip("\"'") for k, v in options.items() if k.startswith(PREFIX)}
    text = "\n".join(f"{name}: {value}" for name, value in options.items())
    print(f"EFFECTIVE_OPTIONS={shlex.quote(text)}")
    for key in ASKED:
        print(f"OPTION_{key}={shlex.quote(str(values.get(key, '')))}")
    played = {k[len(PREFIX) :]: v for k, v in options.items() if k.startswith(PREFIX)}
    words = [f"--set {shlex.quote(f'{k}={v}')}" for k, v in played.items() if k not in NOT_OF_EPISODES]
    print(f"EPISODE_OPTIONS=({' '.join(words)})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
