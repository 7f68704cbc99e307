#!/usr/bin/env bash
# Installs slime_tau2 inside slime's container without moving what the container came with. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/setup.sh [--dry-run]

pip-installs this package and what tau2 needs, with every package that the container has pinned to its own version: numpy, torch,
transformers, openai and the rest stay as they are, and the script fails, changing nothing more, where that cannot be. tau2 itself: an installed v1.0.x is
kept (README, "tau2 itself"); without one, PyPI's copy is installed. Idempotent.
TEXT
}
parse_options "$@"
KEPT="numpy torch transformers openai sglang ray megatron-core"
versions() { python3 - "$@" <<'PYTHON'
import importlib.metadata as m, sys
print(" ".join(f"{n}={m.version(n)}" for n in sys.argv[1:] if any(d.name and d.name.lower().replace("_", "-") == n for d in m.distributions())))
PYTHON
}
CONSTRAINTS="$DATA_DIR/container_constraints.txt"
if [ "$DRY_RUN" = 0 ]; then
  need_command python3 "run this inside slime's container"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python $(python3 -V) is too old; slime's container has 3.12"
  mkdir -p "$DATA_DIR"
  # only what came from an index can be pinned by version; what lies in a folder is not touched by pip anyway
  python3 -m pip list --format freeze --exclude-editable 2>/dev/null | grep -E '^[A-Za-z0-9._-]+==' | grep -viE '^(slime|slime-tau2|pip|setuptools|wheel)==' > "$CONSTRAINTS"
  # shellcheck disable=SC2086
  BEFORE=$(versions $KEPT)
fi
show_or_run python3 -m pip install --constraint "$CONSTRAINTS" --editable "$ROOT"
if [ "$DRY_RUN" = 1 ] || ! python3 -c 'from slime_tau2 import bench' 2>/dev/null; then
  show_or_run python3 -m pip install --no-deps --require-hashes -r "$ROOT/launch/lock/tau2.txt"
  show_or_run slime-tau2 prepare-data
fi
if [ "$DRY_RUN" = 0 ]; then
  # shellcheck disable=SC2086
  AFTER=$(versions $KEPT)
  [ "$BEFORE" = "$AFTER" ] || fail "the container's packages moved: before $BEFORE, now $AFTER; reinstall the former"
  python3 -c 'import slime_tau2.hooks.generate as g; from slime_tau2.hooks import compat; print("slime found" if compat.HAS_SLIME else "slime NOT found: pip install --no-deps -e SLIME_DIR")'
  say "kept: $AFTER"
fi
