#!/usr/bin/env bash
# Makes launch/lock/ anew: every package of the two commands with its version and the hashes of its files. Needs uv; `--upgrade` moves versions.
#   base.txt   what the quickstart needs      dev.txt   what the tests need beside it      tau2.txt   tau2's code and data as PyPI carries them
# Each is complete, so that pip installs them without looking at dependencies. torch is in none: which build is right depends on the
# machine (launch/_setup.sh pins its version).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
compile() { uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet "$@" > /dev/null; }
echo "torch ; sys_platform == 'never'" > "$WORK/no_torch.txt"
echo "setuptools" > "$WORK/build.in"
printf 'eval-protocol==0.3.33\ninspect-evals==0.26.0\n' > "$WORK/tau2.in"
echo 'trl==1.16.0' > "$WORK/template.in"  # for one chat template that the tests compare with
KEPT=()
if [ "${1:-}" != --upgrade ] && [ -f launch/lock/base.txt ]; then
  grep -hoE '^[A-Za-z0-9._-]+==[^ ;]+' launch/lock/base.txt launch/lock/dev.txt > "$WORK/kept.txt"
  KEPT=(--constraint "$WORK/kept.txt")
fi
for extra in local dev; do
  compile setup.py "$WORK/build.in" --extra "$extra" --override "$WORK/no_torch.txt" ${KEPT[@]+"${KEPT[@]}"} -o "$WORK/$extra.txt"
done
compile "$WORK/template.in" --no-deps -o "$WORK/template.txt"
compile "$WORK/tau2.in" --no-deps -o launch/lock/tau2.txt
python3 - "$WORK" <<'PYTHON'
import pathlib, re, sys

work, out = pathlib.Path(sys.argv[1]), pathlib.Path("launch/lock")


def entries(name):
    found = re.findall(r"^\S+==.*(?:\n    .*)*", (work / name).read_text(), re.MULTILINE)
    return {e.split("==")[0]: e for e in found if "'never'" not in e.splitlines()[0]}


base, dev = entries("local.txt"), {**entries("dev.txt"), **entries("template.txt")}
moved = [n for n in base if base[n] != dev.get(n)]
assert not moved, f"base and dev disagree on {moved}"
for name, part in (("base", base), ("dev", {n: e for n, e in dev.items() if n not in base})):
    (out / f"{name}.txt").write_text("".join(e + "\n" for _, e in sorted(part.items())))
PYTHON
wc -l launch/lock/*.txt
