"""Finding tau2 without importing it, on trees laid out as the three vintages are (their code is not needed for that)."""

import sys

import pytest

from slime_tau2 import vintage
from slime_tau2.errors import BenchDataError


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(*folders)`: a repository whose src/tau2 has these folders, first on the path."""

    def make(*folders):
        package = tmp_path / "repo" / "src" / "tau2"
        for folder in folders:
            (package / folder).mkdir(parents=True)
            (package / folder / f"{folder}.py").write_text("raise ImportError('must not be imported')")
        (package / "__init__.py").write_text("raise ImportError('must not be imported')")
        monkeypatch.syspath_prepend(str(package.parent))
        monkeypatch.delitem(sys.modules, "tau2", raising=False)
        return tmp_path / "repo"

    monkeypatch.delenv("TAU2_DATA_DIR", raising=False)
    return make


def test_a_clone_of_v1_is_found_with_its_data(installed):
    repo = installed("orchestrator", "runner")
    (repo / "data" / "tau2" / "domains").mkdir(parents=True)
    found = vintage.find()
    assert (found.name, found.root, found.data_dir) == ("v1", "tau2", repo / "data")


def test_a_clone_says_its_own_version_whatever_is_installed(installed, monkeypatch):
    repo = installed("orchestrator", "runner")
    (repo / "data" / "tau2" / "domains").mkdir(parents=True)
    monkeypatch.setattr(vintage, "distribution_version", lambda name: "2.4.0")  # PyPI's physics package of this name
    (repo / "pyproject.toml").write_text('[project]\nname = "tau2"\nversion = "1.0.1"\n')
    assert vintage.find().version == "1.0.1" and str(vintage.find()).startswith("tau2 1.0.1 (v1, ")
    for broken in ("not toml", "[project]\n", ""):
        (repo / "pyproject.toml").write_text(broken)
        assert vintage.find().version == "2.4.0"


def test_the_pin_has_no_runner(installed):
    repo = installed("orchestrator")
    (repo / "data" / "tau2" / "domains").mkdir(parents=True)
    assert vintage.find().name == "pin"


def test_an_installed_wheel_without_data_says_where_data_comes_from(installed, monkeypatch, tmp_path):
    installed("orchestrator", "runner")
    with pytest.raises(
        BenchDataError, match=r"holds no tau2/domains \(its wheel has no data\); clone tau2-bench and set TAU2_DATA_DIR"
    ):
        vintage.find()
    (tmp_path / "elsewhere" / "tau2" / "domains").mkdir(parents=True)
    monkeypatch.setenv("TAU2_DATA_DIR", str(tmp_path / "elsewhere"))
    assert vintage.find().data_dir == tmp_path / "elsewhere"
