"""The conversation at a prompt, with a reader that follows a script."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serow.cli.diagnosis import ServerError
from serow.cli.repl import Repl
from serow.cli.repl_help import COMMANDS, COMPLETIONS, PARAMETER, SET, SHOW
from serow.cli.server import connect
from serow.cli.session import Session

from .fake_server import answering

QUESTION = "What is 37 + 85?"
ANSWER = "37 + 85 = 122."


class Script:
    """Gives one line after the other, then Ctrl-D."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.keeps_history: list[bool] = []

    def read(self) -> str:
        return self._next()

    def read_quoted(self, text: str) -> str:
        while not text.removeprefix('"""').endswith('"""'):
            text += "\n" + self._next()
        return text.removeprefix('"""').removesuffix('"""')

    def keep_history(self, *, is_on: bool) -> None:
        self.keeps_history.append(is_on)

    def _next(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line


Converse = Callable[..., str]


@pytest.fixture
def session() -> Session:
    """A conversation with zoo-think that is greedy and does not think."""
    return Session("zoo-think", frozenset({"completion", "thinking"}), options={"temperature": 0.0}, think=False)


@pytest.fixture
def converse(
    server: str, session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Converse]:
    """Says lines, returns what was printed to stdout and stderr."""
    monkeypatch.setenv("SEROW_HOST", server)

    def say(*lines: str) -> str:
        with connect() as client:
            Repl(client, session, Script(*lines)).run()
        return "".join(capsys.readouterr())

    yield say


def test_a_message_is_answered_and_remembered(converse: Converse, session: Session) -> None:
    assert converse(QUESTION) == f"{ANSWER}\n\n\n"
    [asked, said] = session.messages
    assert (asked, said["role"], said["content"].strip()) == ({"role": "user", "content": QUESTION}, "assistant", ANSWER)
    converse("What is 1 + 2?")
    assert session.messages[:2] == [asked, said]
    assert [message["role"] for message in session.messages] == ["user", "assistant"] * 2


def test_clear_forgets_what_was_said(converse: Converse, session: Session) -> None:
    assert "Cleared session context\n" in converse(QUESTION, "/clear")
    assert session.messages == []


@pytest.mark.parametrize("line", ["/bye", "/exit"])
def test_the_user_may_leave(converse: Converse, line: str) -> None:
    assert converse(line, QUESTION) == ""


def test_an_empty_line_asks_nothing(converse: Converse) -> None:
    assert converse("", "  ") == "\n"


def test_ctrl_c_at_the_prompt_says_how_to_leave(converse: Converse) -> None:
    assert converse("^C", "/bye") == "Use Ctrl + d or /bye to exit.\n"


@pytest.mark.parametrize(
    "line, text",
    [
        ("/?", COMMANDS),
        ("/help", COMMANDS),
        ("/? set", SET),
        ("/? /show", SHOW),
        ("/set", SET),
        ("/set parameter", PARAMETER),
        ("/show", SHOW),
        ("/nope", "Unknown command '/nope'. Type /? for help"),
        ("/set nope", "Unknown command '/set nope'. Type /? for help"),
        ("/show nope", "Unknown command '/show nope'. Type /? for help"),
        ("/set think hard", "Invalid think level. Choose one of: low, medium, high, max"),
        ("/load", "Usage:\n  /load <modelname>"),
        ("/save a b", "Usage:\n  /save <modelname>"),
    ],
)
def test_help_and_mistakes(converse: Converse, line: str, text: str) -> None:
    assert converse(line, "/bye") == f"{text}\n"


@pytest.mark.parametrize(
    "line, said, name, value",
    [
        ("/set verbose", "Set 'verbose' mode.", "is_verbose", True),
        ("/set quiet", "Set 'quiet' mode.", "is_verbose", False),
        ("/set nowordwrap", "Set 'nowordwrap' mode.", "wraps_words", False),
        ("/set wordwrap", "Set 'wordwrap' mode.", "wraps_words", True),
        ("/set format json", "Set format to 'json' mode.", "format", "json"),
        ("/set noformat", "Disabled format.", "format", None),
        ("/set think", "Set 'think' mode.", "think", True),
        ("/set think low", "Set 'think' mode to 'low'.", "think", "low"),
        ("/set nothink", "Set 'nothink' mode.", "think", False),
        ("/set system Be  brief.", "Set system message.", "system", "Be  brief."),
        ("/set parameter seed 7", "Set parameter 'seed' to '7'", "options", {"temperature": 0.0, "seed": 7}),
    ],
)
def test_settings_hold_for_the_session(
    converse: Converse, session: Session, line: str, said: str, name: str, value: object
) -> None:
    assert converse(line, "/bye") == f"{said}\n"
    assert getattr(session, name) == value


def test_a_system_message_may_span_lines_and_leaves_what_was_said(converse: Converse, session: Session) -> None:
    said = converse(QUESTION, '/set system """Be', 'brief."""', "/bye")
    assert said.endswith("Set system message.\n")
    assert (session.system, len(session.messages)) == ("Be\nbrief.", 2)


def test_history_is_switched_in_the_reader(server: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", server)
    script = Script("/set nohistory", "/set history")
    with connect() as client:
        Repl(client, session, script).run()
    assert script.keeps_history == [False, True]


@pytest.mark.parametrize(
    "line, error",
    [
        ("/set parameter nope 1", 'error: unknown parameter "nope"\n'),
        ("/set parameter seed x", 'error: option "seed" must be of type integer\n'),
        ("/load nope", "error: model 'nope:latest' not found\n"),
        ("/save a:b:c", "error: invalid model name\n"),
    ],
)
def test_what_is_refused_does_not_end_the_conversation(converse: Converse, line: str, error: str) -> None:
    said = converse(line, QUESTION, "/bye")
    assert error in said
    assert f"{ANSWER}\n\n" in said


def test_show_prints_parts_of_the_model(converse: Converse) -> None:
    said = converse("/show info", "/show system", "/show parameters", "/show template", "/bye")
    assert said.startswith("  Model\n    architecture")
    assert "No system message was specified for this model.\n" in said
    assert "User defined parameters:\n  temperature                    0\n" in said
    assert "<|im_start|>" in said


def test_load_changes_the_model_and_forgets(converse: Converse, session: Session) -> None:
    assert "Loading model 'zoo-vision'\n" in converse(QUESTION, "/load zoo-vision")
    assert (session.model, session.messages) == ("zoo-vision", [])
    assert "vision" in session.capabilities


def test_save_makes_a_model_with_the_sessions_settings(converse: Converse) -> None:
    said = converse("/set system Be brief.", "/save test/saved", "/load test/saved", "/show system", "/list test/", "/bye")
    assert "Created new model 'test/saved'\n" in said
    assert "Be brief.\n" in said
    assert "test/saved:latest" in said


def test_save_keeps_what_was_said_as_message_lines(converse: Converse) -> None:
    said = converse(QUESTION, "/save test/told", "/load test/told", "/show modelfile", "/bye")
    assert f"MESSAGE user {QUESTION}\nMESSAGE assistant " in said


DONE = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop"}
SEEN: dict[str, Any] = DONE | {"message": {"role": "assistant", "content": "A cat."}}


def talk(
    monkeypatch: pytest.MonkeyPatch, session: Session, answer: list[dict[str, Any]], *messages: str
) -> list[dict[str, Any]]:
    """Say messages to a server that answers each with the same records; returns the bodies that it got."""
    heard: list[tuple[str, bytes]] = []
    with answering({"/api/version": {"version": "0.33.0", "serow": "0"}, "/api/chat": answer}, heard) as host:
        monkeypatch.setenv("SEROW_HOST", host)
        with connect() as client:
            for message in messages:
                session.talk(client, message)
    return [json.loads(body) for path, body in heard if path == "/api/chat"]


def test_pictures_are_kept_from_turn_to_turn(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / "cat.png").write_bytes(b"picture")
    session = Session("m", frozenset({"completion", "vision"}), system="Look.")
    bodies = talk(monkeypatch, session, [SEEN], "What is this? ./cat.png", "What colour is it?")
    system, first, said, second = bodies[1]["messages"]
    assert system == {"role": "system", "content": "Look."}
    assert first == {"role": "user", "content": "What is this?", "images": ["cGljdHVyZQ=="]}
    assert (said["content"], second) == ("A cat.", {"role": "user", "content": "What colour is it?"})


def test_calls_of_tools_are_shown_and_remembered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    records = [SEEN | {"done": False, "message": {"role": "assistant", "content": "", "tool_calls": [call]}}, SEEN]
    session = Session("m")
    bodies = talk(monkeypatch, session, records, "How is it?", "And now?")
    assert 'calls weather({"city": "Köln"})\n' in capsys.readouterr().err
    assert bodies[1]["messages"][1]["tool_calls"] == [call]


def test_an_exchange_that_fails_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("m")
    with pytest.raises(ServerError, match="no room"):
        talk(monkeypatch, session, [{"error": "no room"}], "Hi")
    assert session.messages == []


def test_every_completion_is_a_command(converse: Converse) -> None:
    assert {"/set parameter", "/set nothink", "/show info", "/bye"} <= set(COMPLETIONS)
    assert "Unknown" not in converse(*(line for line in COMPLETIONS if line != "/bye"))
