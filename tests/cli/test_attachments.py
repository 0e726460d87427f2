"""Pictures named in a prompt."""

from pathlib import Path

import pytest

from serow.cli import attachments
from serow.cli.attachments import AttachmentError, extract

from .conftest import Serow


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that looks like a picture by its name, with a space in it."""
    path = tmp_path / "my cat.PNG"
    path.write_bytes(b"picture")
    return path


def taken(prompt: str, *, can_see: bool = True) -> tuple[str, list[bytes]]:
    """What is left of a prompt, and the pictures."""
    found = extract(prompt, "m", can_see=can_see)
    return found.prompt, found.images


@pytest.mark.parametrize("form", ["{}", "'{}'", '"{}"'])
def test_the_path_of_a_picture_is_taken_out_of_the_prompt(picture: Path, form: str) -> None:
    assert taken(f"What is this? {form.format(picture)}") == ("What is this?", [b"picture"])


def test_a_path_with_escaped_spaces_is_found(picture: Path) -> None:
    escaped = str(picture).replace(" ", "\\ ")
    assert taken(f"{escaped} what is it") == ("what is it", [b"picture"])


@pytest.mark.parametrize("before", ["./missing and", "/one or/another", "see:", "https://x.example/y.png"])
def test_what_stands_before_a_picture_does_not_hide_it(picture: Path, before: str) -> None:
    assert taken(f"{before} {picture}") == (before, [b"picture"])


@pytest.mark.parametrize(
    "prompt", ["what is a .png file?", "a/b.png", "", "https://x.example/cat.png", "C:", "~nobody-here/x.png", "either/or"]
)
def test_what_is_no_path_stays_in_the_prompt_without_a_word(
    prompt: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taken(prompt) == (prompt, [])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "prompt, can_see, said",
    [
        ("see ./nothing.png", True, "there is no file ./nothing.png: its name is sent as text"),
        ("see ./nothing.png", False, "there is no file ./nothing.png: its name is sent as text"),
        ("/nope/nothing.jpg", True, "there is no file /nope/nothing.jpg: its name is sent as text"),
        ("see ./folder.png", True, "there is no file ./folder.png: its name is sent as text"),
        ("see ./cat.png", False, "m does not see pictures: the name of ./cat.png is sent as text"),
        ("see cat.png", True, "the name of cat.png is sent as text; to send the picture write ./cat.png"),
        ("see sub/cat.png", True, "the name of sub/cat.png is sent as text; to send the picture write ./sub/cat.png"),
    ],
)
def test_a_path_that_is_not_used_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], prompt: str, can_see: bool, said: str
) -> None:
    (home / "cat.png").touch()
    (home / "sub").mkdir()
    (home / "sub" / "cat.png").touch()
    (home / "folder.png").mkdir()
    assert taken(prompt, can_see=can_see) == (prompt, [])
    assert capsys.readouterr().err == f"warning: {said}\n"


def test_a_picture_that_is_too_large_is_refused(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_SIZE", 3)
    with pytest.raises(AttachmentError, match="larger than"):
        taken(str(picture))


def test_a_picture_that_the_server_refuses_is_named_by_its_path(serow: Serow, home: Path) -> None:
    (home / "broken.png").write_bytes(b"picture")
    code, out, err = serow("run", "zoo-vision", "What is this? ./broken.png")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: broken.png can't be read: ")
