"""Bodies of type multipart/form-data (RFC 7578): fields and files by name."""

import re
from dataclasses import dataclass

from serow.errors import RequestError

_MOST_PARTS = 100
_LONGEST_HEAD = 8 << 10  # bytes of one part's headers
_BOUNDARY = re.compile(r'boundary="?([^";]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(r'(?:^|[;\s])name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


@dataclass(frozen=True)
class FormPart:
    """One field. `is_file`: it came with a file name."""

    name: str
    data: bytes
    is_file: bool = False


def parse_form(content_type: str, body: bytes) -> list[FormPart]:
    """The parts in order; raises RequestError for a body that is none."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise RequestError("the Content-Type of a form needs a boundary")
    delimiter = b"\r\n--" + match[1].encode("latin-1")
    _, *pieces = (b"\r\n" + body).split(delimiter, _MOST_PARTS + 1)
    if not pieces or len(pieces) > _MOST_PARTS + 1:
        raise RequestError(f"the form is empty, or has more than {_MOST_PARTS} parts")
    if not pieces[-1].startswith(b"--"):
        raise RequestError("the form is cut: its last boundary is missing")
    return [_part(piece) for piece in pieces[:-1]]


def _part(piece: bytes) -> FormPart:
    """The part behind a delimiter: the rest of that line, headers, an empty line, the data."""
    head, separator, data = piece.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not separator or len(head) > _LONGEST_HEAD:
        raise RequestError("a part of the form has no end of its headers")
    headers = dict(_header(line) for line in head.decode("utf-8", "replace").split("\r\n"))
    disposition = headers.get("content-disposition", "")
    name = _NAME.search(disposition)
    if name is None:
        raise RequestError("a part of the form has no name")
    return FormPart(re.sub(r"\\(.)", r"\1", name[1]), data, "filename" in disposition.lower())


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
