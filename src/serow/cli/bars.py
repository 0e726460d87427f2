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
from rich.text import Text

_SOON, _LATER = 30.0, 300.0  # seconds over which a speed is taken; steps, of a build, take very different times


class _Progress(Progress):
    """Shows a task without a total as its description alone."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """A line for each task, in the order of their coming."""
        for task in self.tasks:
            yield self.make_tasks_table([task]) if task.total else Text(task.description)


def progress(*, is_bytes: bool) -> Progress:
    """Bars on stderr; totals are bytes, or steps."""
    amount: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn()) if is_bytes else (MofNCompleteColumn(),)
    period = _SOON if is_bytes else _LATER
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amount, TimeRemainingColumn())
    return _Progress(*columns, console=Console(stderr=True, highlight=False), speed_estimate_period=period)
