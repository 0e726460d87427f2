"""pip's settings, from its files and its variables."""

import sys
from pathlib import Path

import pytest

from serow.registries.package_index.pip_config import DEFAULT_INDEX, PipConfig, load


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home without any configuration, and a system without it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    return tmp_path


def environ(home: Path, **variables: str) -> dict[str, str]:
    return {"XDG_CONFIG_DIRS": str(home / "system"), "XDG_CONFIG_HOME": str(home / "user"), **variables}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_any_settings_it_is_the_public_index(home: Path) -> None:
    assert load({"PIP_CONFIG_FILE": "/dev/null"}) == PipConfig(indexes=(DEFAULT_INDEX,))


def test_the_users_file_lies_over_the_systems(home: Path) -> None:
    write(home / "system/pip/pip.conf", "[global]\nindex-url = https://system.example/simple\nproxy = http://proxy.example\n")
    write(home / "user/pip/pip.conf", "[global]\nindex_url = https://user.example/simple/\n")
    found = load(environ(home))
    assert (found.indexes[0], found.proxy) == ("https://user.example/simple", "http://proxy.example")


def test_variables_lie_over_files(home: Path) -> None:
    write(
        home / "chosen.conf",
        "[global]\nindex-url = https://file.example/simple\nextra-index-url =\n  https://a.example\n  https://b.example\n",
    )
    variables = {"PIP_CONFIG_FILE": str(home / "chosen.conf"), "PIP_INDEX_URL": "https://variable.example/simple"}
    assert load(environ(home, **variables)).indexes == (
        "https://variable.example/simple",
        "https://a.example",
        "https://b.example",
    )


def test_no_index_leaves_the_directories_of_wheels(home: Path) -> None:
    found = load({"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels ./more"})
    assert found == PipConfig(indexes=(), find_links=("/wheels", "./more"))


@pytest.mark.parametrize("text", ["no section\n", "[global\n", "[global]\nindex-url = %(nope)s\n"])
def test_a_broken_file_does_not_stop_a_pull(home: Path, text: str) -> None:
    write(home / "user/pip/pip.conf", text)
    assert load(environ(home)).indexes
