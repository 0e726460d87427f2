"""What is built for others: the wheel and the sdist, their contents and their version."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest

from serow import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST = 2_000_000  # bytes
PAPERS = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml", "PKG-INFO", ".gitignore"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    pytest.importorskip("hatchling", reason="needs the extra dev")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, timeout=100)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    wheel, _ = built
    tracked = subprocess.run(["git", "ls-files", "src/serow"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        metadata = Parser().parsestr(file.read(f"serow-{__version__}.dist-info/METADATA").decode())
    assert names >= {line.removeprefix("src/") for line in tracked.stdout.splitlines() if (ROOT / line).exists()}
    assert all(name.startswith("serow/") and "__pycache__" not in name for name in names)
    assert wheel.stat().st_size < MOST
    assert (metadata["Name"], metadata["Version"]) == ("serow", __version__)


def test_the_sdist_holds_what_builds_the_wheel_and_no_models(built: tuple[Path, Path]) -> None:
    _, sdist = built
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    others = {name for name in names if not name.startswith(("src/serow/", "docs/"))}
    assert others == PAPERS
    assert {"src/serow/__init__.py", "src/serow/py.typed", "docs/contract.md"} <= names
    assert sdist.stat().st_size < MOST


def test_the_version_has_one_source() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["hatch"]["version"] == {"path": "src/serow/__init__.py"}


def test_the_engine_and_what_checks_grammars_for_it_are_pinned_together() -> None:
    pins = dict(re.findall(r'^    "(llguidance|xllamacpp)==([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert pins == {name: version(name) for name in ("llguidance", "xllamacpp")}


def test_the_groups_are_the_extras() -> None:
    assert PROJECT["dependency-groups"] == {"test": ["serow[test]"], "dev": ["serow[dev]", {"include-group": "test"}]}
    assert {"test", "dev"} <= set(PROJECT["project"]["optional-dependencies"])


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
