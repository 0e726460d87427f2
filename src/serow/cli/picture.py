"""Pictures that a model draws, as files in the working directory."""

import base64
import binascii
import re
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from serow.errors import SerowError

_MAX_STEM = 50  # characters of the prompt in a file's name


class PictureError(SerowError):
    """A picture that can't be saved."""


def file_name(prompt: str, now: datetime) -> str:
    """A name that says what was asked for and when."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:_MAX_STEM].strip("-") or "picture"
    return f"{stem}-{now:%Y%m%d-%H%M%S}.png"


def save(image: str, prompt: str) -> Path:
    """Write a base64 PNG to the working directory, under a name that is free; raises PictureError."""
    path = Path(file_name(prompt, datetime.now()))
    try:
        data = base64.b64decode(image, validate=True)
        return _write(path, data)
    except binascii.Error as error:
        raise PictureError("the server sent a broken picture") from error
    except OSError as error:
        raise PictureError(f"can't write {path}: {(error.strerror or 'unknown fault').lower()}") from error


def _write(path: Path, data: bytes) -> Path:
    """Write a new file, numbered where there is one of the name, or a link; returns its path. Raises OSError."""
    for number in count(1):
        free = path.with_stem(f"{path.stem}-{number}") if number > 1 else path
        with suppress(FileExistsError), free.open("xb") as file:
            file.write(data)
            return free
    raise AssertionError("there is always a number more")
