"""Pictures shown in the terminal: by its own means where it has some, as coloured half blocks elsewhere.

Sources: https://sw.kovidgoyal.net/kitty/graphics-protocol/ and https://iterm2.com/documentation-images.html. Both take the PNG
as base64, so nothing that a server sends can be a command for the terminal.
"""

import base64
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Literal

from serow.cli.terminal import command

Means = Literal["kitty", "iterm2", "blocks", "none"]

_WIDTH = 40  # columns at most
_CHUNK = 4096  # characters of one kitty command, its protocol's limit
_KITTY = ("KITTY_WINDOW_ID", "GHOSTTY_RESOURCES_DIR", "KONSOLE_VERSION")
_ITERM2 = ("iTerm.app", "WezTerm", "mintty")


def means_of(environ: Mapping[str, str]) -> Means:
    """How this terminal shows pictures; multiplexers pass only text on."""
    term = environ.get("TERM", "")
    if environ.get("NO_COLOR") or term == "dumb":
        return "none"
    if "TMUX" in environ or term.startswith(("screen", "tmux")):
        return "blocks"
    if term == "xterm-kitty" or any(name in environ for name in _KITTY):
        return "kitty"
    if environ.get("TERM_PROGRAM") in _ITERM2 or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return "blocks"


def shows_previews() -> bool:
    """Whether the terminal shows pictures by its own means, so that a preview is worth it."""
    return sys.stderr.isatty() and means_of(os.environ) in ("kitty", "iterm2")


def show(png: bytes) -> None:
    """Show a picture on stderr, if that is a terminal that can."""
    means = means_of(os.environ)
    if not sys.stderr.isatty() or means == "none" or not (sys.stderr.encoding or "").lower().startswith("utf"):
        return
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    if means == "kitty":
        command(kitty(png, width))
    elif means == "iterm2":
        command(iterm2(png, width))
    else:
        is_exact = os.environ.get("COLORTERM") in ("truecolor", "24bit")
        command("\n".join(blocks(png, width, is_exact=is_exact)))


def kitty(png: bytes, width: int) -> str:
    """Commands of kitty's protocol; `width` in columns."""
    data = base64.b64encode(png).decode("ascii")
    pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    first = f"a=T,f=100,c={width},"
    return "".join(
        f"\x1b_G{first if number == 0 else ''}m={int(number < len(pieces) - 1)};{piece}\x1b\\"
        for number, piece in enumerate(pieces)
    )


def iterm2(png: bytes, width: int) -> str:
    """The command of iTerm2's protocol; `width` in columns."""
    data = base64.b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={width};preserveAspectRatio=1:{data}\a"


def blocks(png: bytes, width: int, *, is_exact: bool) -> Iterator[str]:
    """Lines of half blocks, two pixels each: 24-bit colours, or the 256 that every terminal knows."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        rows = max(1, round(width * picture.height / picture.width / 2))
        small = picture.convert("RGB").resize((width, 2 * rows), Image.Resampling.BOX)
    pixels = small.tobytes()
    colours = [_colour(pixels[at : at + 3], is_exact=is_exact) for at in range(0, len(pixels), 3)]
    for row in range(rows):
        upper, lower = (colours[start : start + width] for start in (2 * row * width, (2 * row + 1) * width))
        yield "".join(f"\x1b[38;{above};48;{below}m▀" for above, below in zip(upper, lower, strict=True)) + "\x1b[0m"


def _colour(rgb: bytes, *, is_exact: bool) -> str:
    """Red, green and blue as a terminal takes them; the 256 colours have a cube of six steps a side."""
    if is_exact:
        return "2;{};{};{}".format(*rgb)
    red, green, blue = (round(part / 255 * 5) for part in rgb)
    return f"5;{16 + 36 * red + 6 * green + blue}"
