"""How far the layers of a pull or push are, as records of the wire (LIB-18).

Each layer has at least one record, the first ones in the manifest's order, and ends with one where completed = total. Between
them at most twenty a second are told, for all layers together, and none goes back.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from serow.errors import RequestError
from serow.library.sharing import Ticket
from serow.store.manifest import Layer

Record = dict[str, Any]

TICK = 0.05  # seconds between two records
SILENCE = 10.0  # seconds after which the last record is told again: proxies cut silent streams


class Moving(Protocol):
    """A blob on its way."""

    completed: int
    notes: list[str]

    async def run(self) -> None:
        """Bring it there."""
        ...


_Moving = TypeVar("_Moving", bound=Moving)


@dataclass
class Item(Generic[_Moving]):
    """A layer that is to be brought somewhere, and the work that brings it, once it has begun."""

    layer: Layer
    ticket: Ticket[_Moving] | None = None
    is_there: bool = False

    @property
    def completed(self) -> int:
        """Bytes that are there."""
        return self.layer.size if self.is_there else self.ticket.work.completed if self.ticket else 0

    def notes(self) -> list[str]:
        """What the work has to say since the last look."""
        if self.ticket is None or not self.ticket.work.notes:
            return []
        found = list(self.ticket.work.notes)
        self.ticket.work.notes.clear()
        return found

    def counter(self, verb: str) -> "Counter":
        """Its records, "pulling 8eeb52dfb3bb" or "pushing …"."""
        status = f"{verb} {self.layer.digest.removeprefix('sha256:')[:12]}"
        return Counter(status, self.layer.digest, self.layer.size, lambda: self.completed)


class Counter:
    """The bytes of one layer. `read` says how many are there; `status` is "pulling 8eeb52dfb3bb"."""

    def __init__(self, status: str, digest: str, total: int, read: Callable[[], int]) -> None:
        self._status = status
        self._digest = digest
        self._total = total
        self._read = read
        self._told = -1

    def record(self) -> Record:
        """The record of now."""
        self._told = max(self._told, min(self._read(), self._total), 0)
        record: Record = {"status": self._status, "digest": self._digest, "total": self._total, "completed": self._told}
        return {name: value for name, value in record.items() if value or name not in ("total", "completed")}

    @property
    def is_told(self) -> bool:
        """Whether a first record has gone out."""
        return self._told >= 0

    @property
    def has_moved(self) -> bool:
        """Whether there is something new to tell."""
        completed = min(self._read(), self._total)
        return completed > self._told and (completed > 0 or not self._total)  # nothing is nothing to tell

    @property
    def is_over(self) -> bool:
        """Whether its last record has gone out."""
        return self._told >= self._total


class Board:
    """The counters of all layers, in the manifest's order."""

    def __init__(self, counters: list[Counter]) -> None:
        self._counters = counters
        self._open = list(counters)
        self._turn = 0
        self._num_told = 0

    def records(self) -> Iterator[Record]:
        """What is to be told at a tick: layers that are complete, and one that has moved."""
        moved = [counter for counter in self._open if counter.has_moved]
        if not moved:
            return
        complete = [counter for counter in moved if counter._read() >= counter._total]
        chosen = complete or [moved[self._turn % len(moved)]]
        self._turn += 1
        for counter in chosen:
            yield from self._tell(counter)
        self._open = [counter for counter in self._open if not counter.is_over]

    def rest(self) -> Iterator[Record]:
        """What was not told yet when all is done."""
        for counter in list(self._open):
            yield from self._tell(counter)
        self._open = []

    def _tell(self, counter: Counter) -> Iterator[Record]:
        """A record, after the first ones of those that stand before it."""
        if not counter.is_told:
            while self._counters[self._num_told] is not counter:
                earlier = self._counters[self._num_told]
                self._num_told += 1
                if not earlier.is_told:
                    yield earlier.record()
            self._num_told += 1
        yield counter.record()


async def watched(
    work: Coroutine[Any, Any, None], board: Board, items: Sequence[Item[_Moving]]
) -> AsyncGenerator[Record, None]:
    """The records of layers while `work` goes on, and what comes up meanwhile; raises what the work fails with."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            for note in dict.fromkeys(note for item in items for note in item.notes()):
                yield {"status": note}
            for record in board.records():
                yield record
            await asyncio.wait({task}, timeout=TICK)
        for record in board.records():
            yield record
        task.result()
        for record in board.rest():
            yield record
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def repeated(
    records: AsyncGenerator[Record, None], ended: asyncio.Event | None = None, silence: float = SILENCE
) -> AsyncGenerator[Record, None]:
    """The records, and the last one again whenever nothing has come for a while.

    Raises RequestError when `ended` is set meanwhile: somebody wants the work no more.
    """
    latest: Record = {}
    end = asyncio.ensure_future((ended or asyncio.Event()).wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(records, None))
            try:
                while not coming.done():
                    done, _ = await asyncio.wait({coming, end}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
                    if end in done:
                        raise RequestError("the model was removed meanwhile")
                    if not done and latest:
                        yield latest
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            record = coming.result()
            if record is None:
                return
            latest = record
            yield record
    finally:
        end.cancel()
        await records.aclose()
