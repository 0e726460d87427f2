"""Pictures that a model draws, as files in the working directory."""

import base64
import binascii
import re
from datetime import datetime
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
        number = 1
        while path.exists():
            number += 1
            path = path.with_stem(f"{path.stem}-{number}" if number == 2 else f"{path.stem.rpartition('-')[0]}-{number}")
        path.write_bytes(data)
    except binascii.Error as error:
        raise PictureError("the server sent a broken picture") from error
    except OSError as error:
        raise PictureError(f"can't write {path}: {(error.strerror or 'unknown fault').lower()}") from error
    return path
