# /// script
# requires-python = ">=3.11"
# dependencies = ["pyte>=0.8.2", "rich>=15.0", "serow"]
# [tool.uv.sources]
# serow = { path = "..", editable = true }
# ///
"""Record a real session at a pseudo terminal as a picture: `uv run scripts/record.py docs/demo.svg`.

Runs the commands below against an empty store and a server of their own, so the first one downloads its model.
"""

import fcntl
import io
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 96, 40
DEADLINE = 300.0  # seconds for one command
TITLE = "serow"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
}
HIDDEN = {"SEROW_MODELS", "OLLAMA_MODELS", "XDG_STATE_HOME"}  # what would lead away from the session's home
MODEL = "qwen2.5-coder:0.5b"
COMMANDS = (
    ("run", MODEL, "What does HTTP status 404 mean? Answer in one sentence."),
    ("run", MODEL, "--format", "city.json", "What is the capital of France?"),
    ("ps",),
)


def main(path: Path) -> None:
    """Run the session and write the picture."""
    screen = pyte.Screen(COLUMNS, LINES)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.ByteStream(screen)
    with workplace() as (directory, environ):
        for command in COMMANDS:
            words = " ".join(f'"{word}"' if " " in word else word for word in command)
            stream.feed(f"\x1b[32m$\x1b[0m \x1b[1mserow {words}\x1b[0m\n".encode())
            play(stream, command, directory, environ)
    path.write_text(render(screen), encoding="utf-8")


@contextmanager
def workplace() -> Iterator[tuple[str, dict[str, str]]]:
    """A directory and an environment of the session's own; ends the server that the session started."""
    with tempfile.TemporaryDirectory(prefix="serow-") as directory, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        Path(directory, "city.json").write_text(json.dumps(CITY))
        own = {"SEROW_HOST": f"127.0.0.1:{port}", "HOME": directory, "TERM": "xterm-256color"}
        environ = {name: value for name, value in os.environ.items() if name not in HIDDEN} | own
        try:
            yield directory, environ
        finally:
            subprocess.run(
                [sys.executable, "-m", "serow", "server", "stop", "--all"], env=environ, check=True, timeout=DEADLINE
            )


def play(stream: pyte.ByteStream, command: tuple[str, ...], directory: str, environ: dict[str, str]) -> None:
    """Run one command and feed what it prints."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execvpe(sys.executable, [sys.executable, "-m", "serow", *command], environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    end = time.monotonic() + DEADLINE
    while select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
        try:
            stream.feed(os.read(terminal, 65536))
        except OSError:  # the program has ended
            break
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(
            f"error: serow {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}\nhint: run it by hand"
        )


def render(screen: pyte.Screen) -> str:
    """The screen as an SVG that needs no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    lines = [line(screen.buffer[number]) for number in range(LINES)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for text in lines:
        console.print(text, soft_wrap=True)
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=TITLE), flags=re.DOTALL)


def line(cells: dict[int, pyte.screens.Char]) -> Text:
    """One line of the screen with its colours."""
    text = Text()
    for column in range(COLUMNS):
        cell = cells[column]
        color = (
            None
            if cell.fg == "default"
            else f"#{cell.fg}"
            if re.fullmatch("[0-9a-f]{6}", cell.fg)
            else cell.fg.replace("brown", "yellow")
        )
        text.append(cell.data, Style(color=color, bold=cell.bold))
    text.rstrip()
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo.svg"))
