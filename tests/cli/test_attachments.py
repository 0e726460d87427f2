"""Pictures named in a prompt."""

from pathlib import Path

import pytest

from serow.cli import attachments
from serow.cli.attachments import AttachmentError, extract


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that looks like a picture by its name, with a space in it."""
    path = tmp_path / "my cat.PNG"
    path.write_bytes(b"picture")
    return path


@pytest.mark.parametrize("form", ["{}", "'{}'", '"{}"'])
def test_the_path_of_a_picture_is_taken_out_of_the_prompt(picture: Path, form: str) -> None:
    assert extract(f"What is this? {form.format(picture)}") == ("What is this?", [b"picture"])


def test_a_path_with_escaped_spaces_is_found(picture: Path) -> None:
    escaped = str(picture).replace(" ", "\\ ")
    assert extract(f"{escaped} what is it") == ("what is it", [b"picture"])


@pytest.mark.parametrize("prompt", ["see /nope/nothing.png", "what is a .png file?", "a/b.png", ""])
def test_what_is_no_file_stays_in_the_prompt(prompt: str) -> None:
    assert extract(prompt) == (prompt, [])


def test_a_picture_that_is_too_large_is_refused(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_SIZE", 3)
    with pytest.raises(AttachmentError, match="larger than"):
        extract(str(picture))
