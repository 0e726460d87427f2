"""`serow run` with a model that draws, against a server that only says that it has drawn."""

import json
from pathlib import Path
from typing import Any

import pytest

from serow.cli.attachments import AttachmentError
from serow.cli.repl import Repl
from serow.cli.server import connect
from serow.cli.session import Session

from .fake_server import answering
from .test_picture import png
from .test_repl import Script

STEP = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": "", "done": False}
DONE = {**STEP, "done": True, "done_reason": "stop", "image": png(), "seed": 7}
VERSION = {"version": "0.33.0", "serow": "0"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def converse(
    monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]], *lines: str, **fields: Any
) -> list[dict[str, Any]]:
    """Say lines to a model that draws; returns the bodies that the server got."""
    heard: list[tuple[str, bytes]] = []
    session = Session("m", frozenset({"image"}), **fields)
    with answering({"/api/version": VERSION, "/api/generate": records}, heard) as host:
        monkeypatch.setenv("SEROW_HOST", host)
        with connect() as client:
            Repl(client, session, Script(*lines)).run()
    return [json.loads(body) for path, body in heard if path == "/api/generate"]


def test_a_drawing_is_saved_and_its_path_and_seed_are_told(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [STEP | {"completed": 0, "total": 2, "status": "loading the model"}, STEP | {"completed": 1, "total": 2}, DONE]
    converse(monkeypatch, records, "a red circle")
    (saved,) = here.glob("*.png")
    told = capsys.readouterr()
    assert saved.name in told.out and "seed 7" in told.err and "loading the model" in told.err


def test_several_drawings_are_several_files_with_their_seeds(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    converse(monkeypatch, [DONE | {"images": [png(), png((8, 8))]}], "a red circle")
    assert len(list(here.glob("*.png"))) == 2 and "seed 8" in capsys.readouterr().err


def test_settings_of_pictures_are_options_of_what_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("/set width 64", "/set negative a blue dog", "/set guidance 4", "/set n 2", "a red circle")
    (body,) = converse(monkeypatch, [DONE], *lines)
    assert body["options"] == {"width": 64, "negative_prompt": "a blue dog", "guidance": 4.0, "n": 2}


def test_a_message_that_begins_with_the_path_of_a_picture_starts_from_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "in.png").write_bytes(b"picture")
    (body,) = converse(monkeypatch, [DONE], f"{here}/in.png a star")
    assert body["prompt"] == "a star" and body["images"] == ["cGljdHVyZQ=="]


def test_a_picture_alone_says_what_to_do(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "in.png").write_bytes(b"picture")
    assert converse(monkeypatch, [DONE], f"{here}/in.png") == []
    assert "write it behind the path" in capsys.readouterr().err
    with pytest.raises(AttachmentError):
        Session("m", frozenset({"image"})).ask(None, "./in.png")


def test_a_drawing_goes_to_the_file_that_was_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converse(monkeypatch, [DONE], "a red circle", output=here / "star.jpg")
    assert (here / "star.jpg").read_bytes().startswith(b"\xff\xd8")
