"""A file of a package index that is known before it is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """A wheel or an sdist, pinned by its size in bytes and its SHA-256."""

    project: str
    filename: str
    size: int
    sha256: str
