"""The files below a folder, by links too, which strangers may have laid in circles."""

import os
from collections.abc import Iterator
from contextlib import suppress


def files_below(
    folder: str,
    deepest: int,
    *,
    leave_out: tuple[type[OSError], ...] = (),
    around: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[tuple[int, str]]:
    """Level, 1 for those in `folder` itself, and path of every file that is not hidden, down to the level `deepest`.

    A folder that is within itself is not entered again, nor one that can't be read for a reason in `leave_out`; else raises
    OSError. `around` are the folders that this one is in.
    """
    level = len(around) + 1
    with suppress(*leave_out):
        if (own := _identity(folder)) in around:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if level < deepest:
                        yield from files_below(entry.path, deepest, leave_out=leave_out, around=around | {own})
                elif entry.is_file():
                    yield level, entry.path


def _identity(folder: str) -> tuple[int, int]:
    """What tells a folder from all others, whatever path led to it."""
    status = os.stat(folder)  # noqa: PTH116 - in microseconds
    return status.st_dev, status.st_ino or hash(folder)  # some file systems number nothing
