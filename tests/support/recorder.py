"""A proxy between a program and the server that writes down what the program asks for, small and without secrets.

One request of each kind is kept (method, path, which fields of which types), with the headers that could matter and the status.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.proxy import Exchange, passing

SECRETS = ("authorization", "x-api-key")
HEADERS = ("content-type", "content-encoding", "accept", "anthropic-version", "anthropic-beta", "openai-beta", *SECRETS)
LARGEST_REFUSED = 20_000  # bytes
LONGEST = 80  # characters of a text that are kept
MOST = 3  # members of a list that are kept, and the last one
PICTURES = ("iVBOR", "data:image")
OURS = re.compile(r"\b(resp|msg|rs|fc|call|ctc)_[0-9A-Za-z-]{8,}")  # identifiers that the server gave
OF_A_RUN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|/tmp/[^\s\"'<]*|20\d\d-\d\d-\d\d(T[\d:.]+Z?)?|1[789]\d{8}(\.\d+)?"
)


@dataclass
class Recorder:
    """The requests so far, by their kind."""

    target: str
    url: str = ""
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, exchange: Exchange) -> None:
        """Keep a request, unless one of its kind is kept, or it was refused for a length that would not be kept."""
        request, body, status = exchange.request, exchange.body, exchange.status
        if status >= 400 and len(body) > LARGEST_REFUSED:
            return
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        headers.update({name: _without_key(headers[name]) for name in SECRETS if name in headers})
        path = OURS.sub(r"\1_recorded", request.path_qs)
        found: dict[str, Any] = {"method": request.method, "path": path, "headers": headers, "status": status}
        if body:
            found["body"] = _small(_parsed(body))
        kind = json.dumps([request.method, path, status, _kind(found.get("body"))])
        self.kinds.setdefault(hashlib.sha256(kind.encode()).hexdigest(), found)

    def write(self, path: Path) -> None:
        """One request a line."""
        lines = (json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in self.kinds.values())
        path.write_text("".join(f"{line}\n" for line in lines))


@asynccontextmanager
async def recording(target: str) -> AsyncIterator[Recorder]:
    """Listen before a server and write down what is asked of it."""
    recorder = Recorder(target)
    async with passing(target, recorder.note) as recorder.url:
        yield recorder


def _without_key(value: str) -> str:
    """A header with the scheme alone, as far as there is one."""
    scheme, space, _ = value.partition(" ")
    return f"{scheme} x" if space else "x"


def _parsed(body: bytes) -> Any:
    """The JSON of a body, or how long it is."""
    try:
        return json.loads(body)
    except ValueError:
        return {"not JSON": len(body)}


def _small(value: Any) -> Any:
    """A body with short texts and lists, and nothing of the run that it was recorded in."""
    match value:
        case dict():
            return {key: _small(each) for key, each in value.items()}
        case list():
            return [_small(each) for each in (value if len(value) <= MOST + 1 else [*value[:MOST], value[-1]])]
        case str():
            kept = OURS.sub(r"\1_recorded", value)
            return kept if kept.startswith(PICTURES) else OF_A_RUN.sub("0", kept)[:LONGEST]
    return value


def _kind(value: Any) -> Any:
    """Which fields there are, of which types."""
    match value:
        case dict():
            return {key: _kind(value[key]) for key in sorted(value)}
        case list():
            return (
                [found for index, found in enumerate(kinds) if found not in kinds[:index]]
                if (kinds := list(map(_kind, value)))
                else []
            )
    return type(value).__name__
