"""Columns, sizes and times as Ollama's command line prints them; in a narrow terminal as far as they fit."""

from collections.abc import Sequence
from datetime import datetime

from serow.cli import terminal
from serow.cli.wrap import cell_width, fold

_GAP, _NARROW_GAP = "    ", "  "
_NARROWEST = 8  # columns of the terminal that a folded cell has at least


def columns(rows: Sequence[Sequence[str]], indent: str = "", spare: Sequence[int] = ()) -> str:
    """Left-aligned columns, four spaces apart, without trailing space.

    Where the terminal is too narrow the gaps shrink, then the `spare` columns go, in this order, then the widest column is
    folded. A cell is one line, whatever it holds.
    """
    width = terminal.width() - len(indent)
    cells = [[" ".join(terminal.escaped(cell).split("\n")) for cell in row] for row in rows]
    gap = _GAP
    if 0 < width < _total(cells, gap):
        gap, kept = _NARROW_GAP, list(range(len(cells[0])))
        for column in spare:
            if _total([[row[each] for each in kept] for row in cells], gap) > width:
                kept.remove(column)
        cells = _folded([[row[each] for each in kept] for row in cells], gap, width)
    widths = _widths(cells)
    lines = (
        gap.join(cell + " " * (width - cell_width(cell)) for cell, width in zip(row, widths, strict=True)) for row in cells
    )
    return "\n".join((indent + line).rstrip() for line in lines)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_width(cell) for cell in column) for column in zip(*rows, strict=True)]


def _total(rows: Sequence[Sequence[str]], gap: str) -> int:
    widths = _widths(rows)
    return sum(widths) + len(gap) * (len(widths) - 1)


def _folded(rows: list[list[str]], gap: str, width: int) -> list[list[str]]:
    """The rows, with the widest column in as many lines as it takes to fit."""
    excess = _total(rows, gap) - width
    if excess <= 0:
        return rows
    widths = _widths(rows)
    widest = widths.index(max(widths))
    room = max(_NARROWEST, widths[widest] - excess)
    out = []
    for row in rows:
        first, *more = fold(row[widest], room) or [""]
        out.append([*row[:widest], first, *row[widest + 1 :]])
        out += [[piece if each == widest else "" for each in range(len(row))] for piece in more]
    return out


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
