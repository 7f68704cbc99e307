"""The command line, in this process."""

import sys

import pytest


def run(*arguments):
    """The exit code of `slime-tau2 ARGUMENTS`."""
    from slime_tau2 import cli

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["slime-tau2", *map(str, arguments)])
        cli.main()
    return ended.value.code
