"""Pictures saved as files."""

import base64
from datetime import datetime
from pathlib import Path

import pytest

from serow.cli.picture import PictureError, file_name, save

IMAGE = base64.b64encode(b"png").decode()


@pytest.mark.parametrize(
    "prompt, stem",
    [
        ("A red circle!", "a-red-circle"),
        ("../../etc/passwd", "etc-passwd"),
        ("", "picture"),
        ("é", "picture"),
        ("x" * 99, "x" * 50),
    ],
)
def test_the_name_says_what_was_asked_for_and_when(prompt: str, stem: str) -> None:
    assert file_name(prompt, datetime(2026, 1, 31, 12, 30, 5)) == f"{stem}-20260131-123005.png"


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {save(IMAGE, "a cat") for _ in range(4)}
    assert len(paths) == 4
    assert all(path.read_bytes() == b"png" for path in paths)


def test_a_broken_picture_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PictureError, match="broken picture"):
        save("!", "a cat")
