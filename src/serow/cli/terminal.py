"""The one way out of the command line: everything that it prints passes here, so nothing commands the user's terminal.

What models and servers say may hold sequences that a terminal obeys (clear the screen, write the clipboard, set the title)
or marks that turn the order of letters round. They are written out, `\\x1b`, wherever people read; data that go to a file or
another program stay as they are.
"""

import contextlib
import logging
import os
import re
import shutil
import sys
from typing import TextIO

import click

from serow.cli.wrap import WordWrap
from serow.errors import SerowError


class OutputClosed(Exception):
    """Whoever read our output has left: there is nobody to tell, and nothing more to do."""


class OutputError(SerowError):
    """The output can't be written: a full disk."""


_FOREIGN = re.compile("(?P<line_end>\r(?=\n))|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """The text with control characters written out, but for tab and line feed, and with them what reorders letters."""
    return _FOREIGN.sub(lambda found: "" if found["line_end"] else ascii(found[0])[1:-1], text)


def is_terminal(*, err: bool = False) -> bool:
    """Whether stdout, or stderr, is a terminal."""
    stream = _stream(err)
    return stream is not None and stream.isatty()


def is_plain(*, err: bool) -> bool:
    """Whether a stream takes no colours and no moving lines: it is no terminal, or its user says so."""
    return not is_terminal(err=err) or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def width(*, err: bool = False) -> int:
    """Columns of the terminal, 0 where the stream is none."""
    return shutil.get_terminal_size().columns if is_terminal(err=err) else 0


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Print text for people."""
    _print(escaped(text), nl=nl, err=err)


def say_dim(text: str, *, bold: bool = False, err: bool = False) -> None:
    """Print text in grey, where there are colours, without a line's end."""
    shown = escaped(text)
    _print(shown if is_plain(err=err) else click.style(shown, fg="bright_black", bold=bold), nl=False, err=err)


def data(text: str, *, nl: bool = True) -> None:
    """Print to stdout what was asked for: as it is, unless it is a terminal."""
    _print(escaped(text) if is_terminal() else text, nl=nl)


def tell(kind: str, text: str) -> None:
    """Print `error: …`, `hint: …`, `warning: …` or `note: …` to stderr, broken between words where that is a terminal."""
    wrap = WordWrap(max(0, width(err=True) - 1))
    line = wrap.feed(escaped(f"{kind}: {text}")) + wrap.flush()
    is_yellow = kind == "warning" and not is_plain(err=True)
    _print(click.style(line, fg="yellow") if is_yellow else line, err=True)


class Handler(logging.Handler):
    """Shows log records on stderr: they may quote an engine, and an engine its model."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        say(self.format(record), err=True)


def command(sequence: str) -> None:
    """Send stderr's terminal a sequence of our own making: a picture."""
    _print(sequence, err=True)


def abandon() -> None:
    """Let go of streams that nobody reads, so that the last flush at the program's end finds no closed pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nothing, stream.fileno())


def _stream(err: bool) -> TextIO | None:
    return sys.stderr if err else sys.stdout


def _print(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print text that may hold colours of ours; raises OutputClosed."""
    encoding = getattr(_stream(err), "encoding", None) or "utf-8"
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=nl, err=err, color=True)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise OutputError(f"can't write the output: {(error.strerror or 'unknown fault').lower()}") from error
