"""Archives that behave, and those that don't."""

import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from serow.engines.build import unpack as module
from serow.engines.build.edit import BuildError
from serow.engines.build.unpack import unpack
from tests.engines.fake import write_tar

FILES = {"top/inner/a.txt": "a", "top/inner/deep/b.txt": "b", "top/setup.py": "raise SystemExit(1)", "topmost/inner/c.txt": "c"}


def below(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def write_odd(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> None:
    """A tar with one good member, and one that is not what an sdist holds."""
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("top/inner/good.txt"))
        odd = tarfile.TarInfo(name)
        odd.type, odd.linkname = kind, "/etc/passwd"
        tar.addfile(odd)


def test_the_files_of_the_subtree_come_out_and_nothing_else(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", FILES)
    unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
    assert below(tmp_path / "out") == {"a.txt": "a", "deep/b.txt": "b"}


def test_a_wheel_comes_out_alike_and_its_programs_can_be_run(tmp_path: Path) -> None:
    program = zipfile.ZipInfo("top/inner/tool")
    program.external_attr = 0o100755 << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
        wheel.writestr(program, "#!/bin/sh\n")
    unpack(tmp_path / "a.whl", "top/inner", tmp_path / "out")
    assert below(tmp_path / "out") == {"a.txt": "a", "deep/b.txt": "b", "tool": "#!/bin/sh\n"}
    assert os.access(tmp_path / "out" / "tool", os.X_OK)
    assert not os.access(tmp_path / "out" / "a.txt", os.X_OK)


@pytest.mark.parametrize("name", ["top/inner/../../../evil.txt", "top/inner/..\\evil.txt", "top/inner/c:evil.txt"])
def test_a_path_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    write_odd(tmp_path / "a.tar.gz", name)
    with pytest.raises(BuildError, match="leads out of it"):
        unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["/top/inner/evil.txt", "../top/inner/evil.txt", "evil.txt"])
def test_a_path_outside_of_the_subtree_is_left_out(tmp_path: Path, name: str) -> None:
    write_odd(tmp_path / "a.tar.gz", name)
    unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
    assert below(tmp_path / "out") == {"good.txt": ""}
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    write_odd(tmp_path / "a.tar.gz", "top/inner/odd", kind)
    with pytest.raises(BuildError, match="a link or a device"):
        unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
    assert below(tmp_path / "out") == {"good.txt": ""}


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("top/inner/odd")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr(link, "/etc/passwd")
    with pytest.raises(BuildError, match="a link or a device"):
        unpack(tmp_path / "a.whl", "top/inner", tmp_path / "out")


@pytest.mark.parametrize("limit", ["MAX_SIZE", "MAX_MEMBERS"])
def test_an_archive_is_unpacked_up_to_a_bound_that_counts_all_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    write_tar(tmp_path / "a.tar.gz", {"other": bytes(10), "top/inner/a": bytes(10), "top/inner/b": bytes(10)})
    monkeypatch.setattr(module, limit, {"MAX_SIZE": 25, "MAX_MEMBERS": 2}[limit])
    with pytest.raises(BuildError, match="larger than it should be"):
        unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
    assert list(below(tmp_path / "out")) == ["a"]


def test_a_member_that_claims_to_be_enormous_is_not_unpacked(tmp_path: Path) -> None:
    info = tarfile.TarInfo("top/inner/a")
    info.size = 1 << 40
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf()))
    with pytest.raises(BuildError, match="larger than it should be"):
        unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.whl"])
@pytest.mark.parametrize("keep", [0, 100])
def test_a_broken_archive_is_named(tmp_path: Path, name: str, keep: int) -> None:
    write_tar(tmp_path / "whole", {"top/inner/a": os.urandom(1000)})
    (tmp_path / name).write_bytes((tmp_path / "whole").read_bytes()[:keep])
    with pytest.raises(BuildError, match=rf"^{name} is broken$"):
        unpack(tmp_path / name, "top/inner", tmp_path / "out")


def test_an_archive_without_the_subtree_is_not_what_was_expected(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", {"other/a": "a"})
    with pytest.raises(BuildError, match="does not hold what was expected"):
        unpack(tmp_path / "a.tar.gz", "top/inner", tmp_path / "out")
