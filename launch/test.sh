#!/usr/bin/env bash
# Sets up and passes the tests: the fast tier. Options go to pytest, e.g. `-m exhaustive`.
# See --help.
# shellcheck source-path=SCRIPTDIR
case "${1:-}" in
  --help|-h)
    cat <<TEXT
usage: launch/test.sh [OPTIONS OF pytest]

Installs the test tools into SLIME_TAU2_VENV (default .venv; some 80 s the first time), then runs ruff, mypy and the fast tests.
  -m exhaustive    the slow ones          -m upstream    those inside slime, SGLang and tau2's repository (docs/training.md)
  tests/hooks      a part                 -n 2           in two processes
SLIME_TAU2_TORCH_INDEX names another package index for torch. pytest's own options: .venv/bin/python -m pytest --help
TEXT
    exit 0 ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh" dev
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check --quiet .
"$VENV/bin/python" -m mypy --no-error-summary
exec "$VENV/bin/python" -m pytest -r s "$@"
