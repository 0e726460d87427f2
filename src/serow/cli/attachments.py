"""Pictures that a prompt names by their paths, as Ollama's command line takes them. A path that is not used is said."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ollama

from serow.cli.terminal import say, tell
from serow.errors import SerowError

MAX_SIZE = 100 << 20  # bytes
_ENDING = r"\.(?:jpg|jpeg|png|webp|gif|bmp)\b"
_PATH = re.compile(rf"(?<![\w/.~])(?!(?<=:)//)(?:[a-zA-Z]:(?!//))?(?:\./|\.\./|~/|/|\\)[\S\\ ]+?{_ENDING}", re.IGNORECASE)
_BARE = re.compile(rf"(?<![\w/.~\\-])\w[\w.-]*(?:/[\w.-]+)*{_ENDING}", re.IGNORECASE)  # a file that is named without ./
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")
_NUMBERED = re.compile(r"image (\d+)\b")  # how the server names a picture that it refuses


class AttachmentError(SerowError):
    """A picture that is there and can't be sent."""


@dataclass(frozen=True)
class Attached:
    """A prompt without the paths of its pictures, and the pictures."""

    prompt: str
    images: list[bytes] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


def names_picture(message: str) -> bool:
    """Whether a message begins with the path of a picture rather than with a command."""
    return _PATH.match(message) is not None


def extract(prompt: str, model: str, *, can_see: bool) -> Attached:
    """Take the pictures out of a prompt, say which paths stay in it and why; raises AttachmentError."""
    found = [(text, path) for text, path in _paths(prompt) if _is_used(text, path, model, can_see=can_see)]
    images = []
    rest = prompt
    for text, path in found:
        images.append(_read(path))
        say(f"added image '{path}'", err=True)
        rest = re.sub(f"(['\"]?){re.escape(text)}\\1", "", rest)
    if can_see:
        _mention_bare(rest)
    return Attached(rest.strip(), images, [path for _, path in found])


@contextmanager
def named(paths: Sequence[Path]) -> Iterator[None]:
    """Give pictures that the server refuses by number their paths; raises AttachmentError."""
    try:
        yield
    except ollama.ResponseError as error:
        number = _NUMBERED.match(error.error)
        if number is None or int(number[1]) >= len(paths):
            raise
        raise AttachmentError(f"{paths[int(number[1])]}{error.error[number.end() :]}") from error


def _paths(prompt: str) -> Iterator[tuple[str, Path]]:
    """Every path as it is written, and as it is meant. A blank may belong to it, or end what is no path."""
    start = 0
    while match := _PATH.search(prompt, start):
        path, blank = _meant(match[0]), match[0].find(" ")
        inner = _PATH.search(prompt, match.start() + blank, match.end()) if blank > 0 and not path.exists() else None
        if inner:
            start = inner.start()
        else:
            yield match[0], path
            start = match.end()


def _meant(written: str) -> Path:
    try:
        return Path(_ESCAPED.sub(r"\1", written)).expanduser()
    except RuntimeError:  # a home that nobody has
        return Path(written)


def _is_used(written: str, path: Path, model: str, *, can_see: bool) -> bool:
    """Whether a picture is sent; says so when it is not."""
    if not path.is_file():
        tell("warning", f"there is no file {written}: its name is sent as text")
        return False
    if not can_see:
        tell("warning", f"{model} does not see pictures: the name of {written} is sent as text")
    return can_see


def _mention_bare(prompt: str) -> None:
    for match in _BARE.finditer(prompt):
        if Path(match[0]).is_file():
            tell("warning", f"the name of {match[0]} is sent as text; to send the picture write ./{match[0]}")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SIZE:
            raise AttachmentError(f"{path} is larger than {MAX_SIZE >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise AttachmentError(f"can't read {path}: {(error.strerror or 'unknown fault').lower()}") from error
