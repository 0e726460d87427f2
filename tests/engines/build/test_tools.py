"""CMake and ninja: whose are taken."""

import platform
import sys
from pathlib import Path

import pytest

from serow.engines.build import tools
from serow.engines.build.edit import BuildError
from serow.engines.build.tools import CMAKE, NINJA, TOOLS, Tool, platform_tag

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def stand_in(directory: Path, name: str, says: str, status: int = 0) -> Path:
    """A program that says something and ends."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of the test's own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("says", ["cmake version 3.21.0", "cmake version 3.30.1-rc2", "cmake version 4.1.3\n\nCMake suite"])
def test_a_tool_on_the_path_is_taken_when_it_is_new_enough(path: Path, says: str) -> None:
    program = stand_in(path, "cmake", says)
    installed = CMAKE.installed()
    assert installed and installed[0] == str(program)
    assert installed[1] in says


@pytest.mark.parametrize("says", ["cmake version 3.20.9", "cmake version 2.8.12", "no such thing", ""])
def test_a_tool_that_is_too_old_or_none_at_all_is_not_taken(path: Path, says: str) -> None:
    stand_in(path, "cmake", says)
    assert CMAKE.installed() is None


def test_ninja_is_known_by_its_second_name_too(path: Path) -> None:
    stand_in(path, "ninja-build", "1.10.2")
    assert NINJA.installed() == (str(path / "ninja-build"), "1.10.2")


def test_a_tool_that_hangs_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_DEADLINE", 0.2)
    program = path / "ninja"
    program.write_text("#!/bin/sh\nwhile :; do :; done\n")
    program.chmod(0o755)
    assert NINJA.installed() is None


@pytest.mark.parametrize(
    ("system", "machine", "libc", "tag"),
    [
        ("linux", "x86_64", "glibc", "linux-x86_64"),
        ("linux", "aarch64", "", "musl-aarch64"),
        ("darwin", "arm64", "", "macos"),
        ("win32", "AMD64", "", "windows-amd64"),
    ],
)
def test_the_machine_is_named_as_the_table_names_it(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: str, tag: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    assert platform_tag() == tag
    assert all(tool.wheel().filename.startswith(f"{tool.name}-{tool.version}-py3-none-") for tool in TOOLS)


def test_a_machine_without_a_wheel_is_told_to_install_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(BuildError, match=r"^cmake is not here$") as caught:
        CMAKE.wheel()
    assert caught.value.hint == "install cmake 3.21 or newer with the system's packages"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_wheel_is_pinned(tool: Tool) -> None:
    assert len({sha256 for _, _, sha256 in tool.wheels.values()}) == len(tool.wheels) == 7
    assert all(len(sha256) == 64 and size > 100_000 for _, size, sha256 in tool.wheels.values())
