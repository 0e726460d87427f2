"""Pictures saved as files."""

import base64
import io
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from serow.cli.picture import PictureError, check, file_name, save

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


def png(size: tuple[int, int] = (4, 4)) -> str:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_a_picture_goes_where_output_says_and_in_the_format_of_its_ending(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert save(png(), "a cat", tmp_path / "there").parent == tmp_path / "there"
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        with Image.open(save(png(), "a cat", tmp_path / name)) as saved:
            assert saved.format == kind
    assert save(png(), "a cat", tmp_path / "a.png") == tmp_path / "a-2.png"
    with pytest.raises(PictureError, match="can't write"):
        save(png(), "a cat", tmp_path / "nowhere" / "a.png")


@pytest.mark.parametrize("output", ["nowhere", "nowhere/a.png"])
def test_a_directory_that_is_not_there_is_told_before_anything_is_drawn(tmp_path: Path, output: str) -> None:
    with pytest.raises(PictureError, match="there is no directory") as caught:
        check(tmp_path / output)
    assert caught.value.hint.startswith("make it")
    check(tmp_path)
    check(tmp_path / "a.png")
