#!/usr/bin/env bash
# SFT → RFT → GRPO → evaluation → Hugging Face model on the bundled domain; no GPU needed.
# Installs into .venv, writes to outputs/quickstart, resumes when run again. Options go to `slime-tau2 quickstart`.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh" local
exec "$VENV/bin/slime-tau2" quickstart "$@"
