"""Pictures that a model draws, as files in the working directory."""

import base64
import binascii
import re
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from serow.errors import SerowError
from serow.images import convert

_KINDS = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}  # by the ending of a file that was asked for
_QUALITY = 92
_MAX_STEM = 50  # characters of the prompt in a file's name


class PictureError(SerowError):
    """A picture that can't be saved."""


def file_name(prompt: str, now: datetime) -> str:
    """A name that says what was asked for and when."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:_MAX_STEM].strip("-") or "picture"
    return f"{stem}-{now:%Y%m%d-%H%M%S}.png"


def check(output: Path) -> None:
    """Refuse a place where no picture can be saved, before one is drawn; raises PictureError."""
    if output.is_dir():
        return
    if not output.suffix:
        raise PictureError(f"there is no directory {output}", hint="make it, or name a file that ends in .png, .jpg or .webp")
    if not output.parent.is_dir():
        raise PictureError(f"there is no directory {output.parent}", hint="make it first")


def save(image: str, prompt: str, output: Path | None = None) -> Path:
    """Write a base64 PNG under a name that is free; raises PictureError.

    `output` is a directory, else a file whose ending says the format; without one the working directory is meant.
    """
    path = _path(prompt, output)
    data = decode(image)
    if kind := _KINDS.get(path.suffix.lower()):
        data = convert(data, kind, _QUALITY)
    try:
        return _write(path, data)
    except OSError as error:
        raise PictureError(f"can't write {path}: {(error.strerror or 'unknown fault').lower()}") from error


def decode(image: str) -> bytes:
    """The bytes of a picture that a server sent; raises PictureError."""
    try:
        return base64.b64decode(image, validate=True)
    except binascii.Error as error:
        raise PictureError("the server sent a broken picture") from error


def _path(prompt: str, output: Path | None) -> Path:
    named = file_name(prompt, datetime.now())
    if output is None:
        return Path(named)
    return output / named if output.is_dir() else output


def _write(path: Path, data: bytes) -> Path:
    """Write a new file, numbered where there is one of the name, or a link; returns its path. Raises OSError."""
    for number in count(1):
        free = path.with_stem(f"{path.stem}-{number}") if number > 1 else path
        with suppress(FileExistsError), free.open("xb") as file:
            file.write(data)
            return free
    raise AssertionError("there is always a number more")
