"""Pictures that a prompt names by their paths, as Ollama's command line takes them."""

import re
from pathlib import Path

from serow.cli.terminal import say
from serow.errors import SerowError

MAX_SIZE = 100 << 20  # bytes
_PATH = re.compile(r"(?:[a-zA-Z]:)?(?:\./|\.\./|~/|/|\\)[\S\\ ]+?\.(?:jpg|jpeg|png|webp|gif|bmp)\b", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")


class AttachmentError(SerowError):
    """A picture that is there and can't be sent."""


def names_picture(message: str) -> bool:
    """Whether a message begins with the path of a picture rather than with a command."""
    return _PATH.match(message) is not None


def extract(prompt: str) -> tuple[str, list[bytes]]:
    """The prompt without the paths of pictures that exist, and their bytes; raises AttachmentError."""
    images = []
    for found in _PATH.findall(prompt):
        path = Path(_ESCAPED.sub(r"\1", found)).expanduser()
        if not path.is_file():
            continue
        images.append(_read(path))
        say(f"added image '{path}'", err=True)
        prompt = re.sub(f"(['\"]?){re.escape(found)}\\1", "", prompt)
    return prompt.strip(), images


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SIZE:
            raise AttachmentError(f"{path} is larger than {MAX_SIZE >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise AttachmentError(f"can't read {path}: {(error.strerror or 'unknown fault').lower()}") from error
