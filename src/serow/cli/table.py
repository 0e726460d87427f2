"""Columns, sizes and times as Ollama's command line prints them."""

from collections.abc import Sequence
from datetime import datetime

_GAP = "    "


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Left-aligned columns, four spaces apart, without trailing space."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def human_duration(seconds: float) -> str:
    """A length of time in one unit, in words: About a minute, 4 hours."""
    minutes, hours = int(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        count = int(seconds)
        return "Less than a second" if count < 1 else f"{count} second{'s' * (count > 1)}"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for days, name, limit in ((1, "days", 14), (7, "weeks", 60), (30, "months", 730)):
        if hours < 24 * limit:
            return f"{hours // 24 // days} {name}"
    return f"{hours // 24 // 365} years"


def human_time(moment: datetime, now: datetime) -> str:
    """A moment seen from now: 2 days ago, 4 minutes from now, Forever."""
    seconds = (now - moment).total_seconds()
    if seconds < -20 * 365 * 86400:
        return "Forever"
    return f"{human_duration(-seconds)} from now" if seconds < 0 else f"{human_duration(seconds)} ago"


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: 572.614035ms, 1.5s, 1m1s."""
    for unit, name in ((1, "ns"), (1_000, "µs"), (1_000_000, "ms")):
        if nanoseconds < unit * 1000:
            return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes_left = divmod(minutes, 60)
    head = f"{hours}h{minutes_left}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{_decimal(rest, 1_000_000_000)}s"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
