import base64
import io
import re

import pytest
from PIL import Image

from serow.cli.inline import blocks, iterm2, kitty, means_of


def png(size: tuple[int, int] = (4, 4)) -> bytes:
    """Red above, blue below."""
    picture = Image.new("RGB", size, "red")
    picture.paste((0, 0, 255), (0, size[1] // 2, *size))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("environ", "means"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, "blocks"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "none"),
        ({"TERM": "dumb"}, "none"),
    ],
)
def test_the_terminal_says_how_it_shows_pictures(environ: dict[str, str], means: str) -> None:
    assert means_of(environ) == means


def test_kitty_gets_the_whole_picture_in_pieces_of_its_size() -> None:
    data = bytes(range(256)) * 40
    pieces = re.findall("\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\\\", kitty(data, 40))
    assert [head for head, _ in pieces] == ["a=T,f=100,c=40,m=1", "m=1", "m=1", "m=0"]
    assert base64.b64decode("".join(body for _, body in pieces)) == data
    assert max(len(body) for _, body in pieces) == 4096


def test_iterm2_gets_the_whole_picture() -> None:
    head, _, data = iterm2(b"png", 40).partition(":")
    assert head == "\x1b]1337;File=inline=1;size=3;width=40;preserveAspectRatio=1"
    assert base64.b64decode(data.removesuffix("\a")) == b"png"


def test_blocks_hold_two_pixels_each() -> None:
    assert list(blocks(png(), 2, is_exact=True)) == ["\x1b[38;2;255;0;0;48;2;0;0;255m▀" * 2 + "\x1b[0m"]
    assert list(blocks(png((2, 4)), 2, is_exact=False)) == [
        "\x1b[38;5;196;48;5;196m▀" * 2 + "\x1b[0m",
        "\x1b[38;5;21;48;5;21m▀" * 2 + "\x1b[0m",
    ]
