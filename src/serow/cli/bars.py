"""Progress bars on a terminal, with lines of text between them."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from serow.cli.terminal import width

_WIDE, _NARROW = 80, 60  # columns where nobody says how many there are; below which there is no room for the pace
_BAR, _SHORT_BAR, _AMOUNT, _PACE = 20, 6, 12, 12  # columns of a bar, of sizes, of a speed or a time, with what parts them
_SOON, _LATER = 30.0, 300.0  # seconds over which a speed is taken; steps, of a build, take very different times


class _Progress(Progress):
    """Shows a task without a total as its description alone."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """A line for each task, in the order of their coming."""
        for task in self.tasks:
            yield self.make_tasks_table([task]) if task.total else Text(task.description)


def _pace(*, is_bytes: bool) -> tuple[ProgressColumn, ...]:
    speed, left = Column(no_wrap=True, min_width=_PACE - 2), Column(no_wrap=True)
    remaining = TimeRemainingColumn(table_column=left)
    return (TransferSpeedColumn(table_column=speed), remaining) if is_bytes else (remaining,)


def progress(*, is_bytes: bool) -> Progress:
    """Bars on stderr; totals are bytes, or steps."""
    room = width(err=True) or _WIDE
    bar, pace = (_SHORT_BAR, ()) if room < _NARROW else (_BAR, _pace(is_bytes=is_bytes))
    rest = bar + _AMOUNT + _PACE * len(pace)
    what = Column(no_wrap=True, overflow="ellipsis", max_width=max(_SHORT_BAR, room - rest))
    whole = Column(no_wrap=True, min_width=_AMOUNT - 2)
    amount: ProgressColumn = DownloadColumn(table_column=whole) if is_bytes else MofNCompleteColumn(table_column=whole)
    columns = (TextColumn("{task.description}", markup=False, table_column=what), BarColumn(bar), amount, *pace)
    period = _SOON if is_bytes else _LATER
    return _Progress(*columns, console=Console(stderr=True, highlight=False), speed_estimate_period=period)
