"""The program at a real (pseudo) terminal."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .terminal import Terminal

LONG = "Count from one to five hundred, in words."
SENT = "\x1b[?2004l"  # the prompt gives the terminal back
SPINNER_GONE = "\x1b[?25h"  # the cursor is shown again: the answer begins


def run(*args: str) -> Terminal:
    return Terminal([sys.executable, "-m", "serow", "run", *args])


@pytest.fixture
def chat(server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A conversation with zoo-think, at its prompt."""
    monkeypatch.setenv("SEROW_HOST", server)
    with run("zoo-think", "--think=false") as terminal:
        terminal.expect(">>> ")
        yield terminal


def test_a_message_is_answered_and_ctrl_d_leaves(chat: Terminal) -> None:
    chat.send("What is 37 + 85?\r")
    chat.expect("37 + 85 = 122.")
    chat.expect(">>> ")
    chat.send("\x04")
    assert chat.wait() == 0


def test_a_message_may_span_lines(chat: Terminal) -> None:
    chat.send('"""What is\r')
    chat.expect("... ")
    chat.send('37 + 85?"""\r')
    chat.expect(SENT)
    chat.expect("= ")
    chat.expect(">>> ")
    chat.send("\x04")
    assert chat.wait() == 0


def test_what_is_typed_is_remembered_for_the_next_time(chat: Terminal, home: Path) -> None:
    chat.send("/set quiet\r")
    chat.expect("Set 'quiet' mode.")
    chat.expect(">>> ")
    chat.send("/bye\r")
    assert chat.wait() == 0
    assert "+/set quiet\n" in (home / "state" / "serow" / "history").read_text()


def test_ctrl_c_stops_the_answer_not_the_program(server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", server)
    with run("smollm2:135m") as terminal:
        terminal.expect(">>> ")
        terminal.send(f"{LONG}\r")
        terminal.expect(SENT)
        terminal.expect(SPINNER_GONE)
        terminal.send("\x03")
        terminal.expect(">>> ")
        terminal.send("\x04")
        assert terminal.wait() == 0


def test_ctrl_c_ends_a_single_answer_with_130(server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", server)
    with run("smollm2:135m", LONG) as terminal:
        terminal.expect(SPINNER_GONE)
        terminal.send("\x03")
        assert terminal.wait() == 130
