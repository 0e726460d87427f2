"""Paths that no route knows, and what was meant: a base URL's /v1 is doubled, left out or in capitals (OAI-03)."""

from collections.abc import Collection

from serow.server.exchange import Exchange
from serow.wire.errors import Shape, shape_of

_PREFIXES = ("/v1", "/api")
_LONGEST = 200  # characters of a path that are told again
_MOST_PARTS = 20


def intended(path: str, known: Collection[str]) -> str:
    """The route that a path was probably meant to be, "" where there is none."""
    parts = [part for part in path.lower().split("/") if part][-_MOST_PARTS:]
    for start in range(len(parts)):
        tail = "/" + "/".join(parts[start:])
        for candidate in (tail, *(prefix + tail for prefix in _PREFIXES)):
            if candidate in known and candidate != path:
                return candidate
    return ""


def is_of_an_api(path: str) -> bool:
    """Whether a path is below one of the APIs, whose clients read JSON only."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PREFIXES)


def complaint(exchange: Exchange, meant: str) -> str:
    """What is said of a path that there is not, with what to do."""
    said = f"404 page not found: {exchange.method} {exchange.path[:_LONGEST]}"
    if not meant:
        return said
    if meant == exchange.path.lower():
        return f"{said}\nhint: the path is {meant}: small letters are others than capitals"
    end = "ends in /v1, once" if shape_of(meant) == "openai" else f"ends before {meant[: meant.index('/', 1)]}"
    return f"{said}\nhint: the path is {meant}: the base URL of the client {end}"


def shape_for(exchange: Exchange, meant: str) -> Shape:
    """Whose words the complaint is told in: those of the API that was meant."""
    return shape_of(meant or exchange.path, has_anthropic_version=exchange.has_anthropic_version)
