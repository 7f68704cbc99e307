#!/usr/bin/env bash
# SFT → RFT → GRPO → evaluation → Hugging Face model on the bundled domain; no GPU needed.
# Installs into .venv, writes to outputs/quickstart, resumes when run again. Options go to `slime-tau2 quickstart`.
# See --help.
# shellcheck source-path=SCRIPTDIR
case "${1:-}" in
  --help|-h)
    cat <<TEXT
usage: launch/quickstart.sh [OPTIONS OF slime-tau2 quickstart]

Installs into SLIME_TAU2_VENV (default .venv; some 80 s the first time), then trains and evaluates, some ten minutes on two cores.
The same command resumes.
  --output DIR       where everything goes (default outputs/quickstart)
  --smoke            every stage in about a minute; learns nothing
  --set KEY=VALUE    a setting; slime-tau2 options lists them
SLIME_TAU2_TORCH_INDEX names another package index for torch.
TEXT
    exit 0 ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh" local
exec "$VENV/bin/slime-tau2" quickstart "$@"
