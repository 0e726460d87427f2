"""The conversation at a prompt, with a reader that follows a script."""

from collections.abc import Callable, Iterator

import pytest

from serow.cli.repl import Repl
from serow.cli.repl_help import COMMANDS, COMPLETIONS, PARAMETER, SET, SHOW
from serow.cli.server import connect
from serow.cli.session import Session

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
    first = list(session.context)
    converse("What is 1 + 2?")
    assert session.context[: len(first)] == first
    assert len(session.context) > len(first) > 0


def test_clear_forgets_what_was_said(converse: Converse, session: Session) -> None:
    assert "Cleared session context\n" in converse(QUESTION, "/clear")
    assert session.context == []


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


def test_a_system_message_may_span_lines_and_starts_anew(converse: Converse, session: Session) -> None:
    said = converse(QUESTION, '/set system """Be', 'brief."""', "/bye")
    assert said.endswith("Set system message and cleared session context.\n")
    assert (session.system, session.context) == ("Be\nbrief.", [])


def test_history_is_switched_in_the_reader(server: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", server)
    script = Script("/set nohistory", "/set history")
    with connect() as client:
        Repl(client, session, script).run()
    assert script.keeps_history == [False, True]


@pytest.mark.parametrize(
    "line, error",
    [
        ("/set parameter nope 1", "error: unknown parameter 'nope'\n"),
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
    assert (session.model, session.context) == ("zoo-vision", [])
    assert "vision" in session.capabilities


def test_save_makes_a_model_with_the_sessions_settings(converse: Converse) -> None:
    said = converse("/set system Be brief.", "/save test/saved", "/load test/saved", "/show system", "/list test/", "/bye")
    assert "Created new model 'test/saved'\n" in said
    assert "Be brief.\n" in said
    assert "test/saved:latest" in said


def test_every_completion_is_a_command(converse: Converse) -> None:
    assert {"/set parameter", "/set nothink", "/show info", "/bye"} <= set(COMPLETIONS)
    assert "Unknown" not in converse(*(line for line in COMPLETIONS if line != "/bye"))
