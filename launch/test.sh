#!/usr/bin/env bash
# Sets up and passes the tests: the fast tier. Options go to pytest, e.g. `-m exhaustive`.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh" dev
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check --quiet .
exec "$VENV/bin/python" -m pytest -r s "$@"
