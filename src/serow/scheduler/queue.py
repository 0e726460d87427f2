"""Requests that wait for a place: in order for each model, in turn between its clients."""

import asyncio
import copy
import itertools
from collections import deque
from dataclasses import dataclass, field

from serow.errors import SerowError
from serow.scheduler.resident import Demand, Key, Resident


@dataclass(eq=False)
class Waiter:
    """One request that asks for a place. `settled` once it has a resident or an error."""

    demand: Demand
    keep_alive: float | None  # seconds
    client: str
    number: int = 0  # order of arrival
    resident: Resident | None = None
    error: SerowError | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def placed(self) -> Resident:
        """Wait for the place; raises what the request is refused with."""
        await self.settled.wait()
        if self.error is not None:
            raise copy.copy(self.error)  # it may be remembered: no request's frames may hang on it
        assert self.resident is not None
        return self.resident


class WaitQueue:
    """Waiters of every model. A client that just got a place stands behind the model's other clients."""

    def __init__(self) -> None:
        self._models: dict[Key, dict[str, deque[Waiter]]] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return sum(map(self.count, self._models))

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._models.get(waiter.demand.key, {}).get(waiter.client, ())

    def count(self, key: Key) -> int:
        """How many wait for the model."""
        return sum(map(len, self._models.get(key, {}).values()))

    def models(self) -> list[Key]:
        """Models that somebody waits for, the longest waiting first."""
        return sorted(self._models, key=lambda key: min(line[0].number for line in self._models[key].values()))

    def head(self, key: Key) -> Waiter | None:
        """Whose turn it is."""
        clients = self._models.get(key)
        return next(iter(clients.values()))[0] if clients else None

    def push(self, waiter: Waiter) -> None:
        """Stand at the end of the client's line."""
        waiter.number = next(self._numbers)
        self._models.setdefault(waiter.demand.key, {}).setdefault(waiter.client, deque()).append(waiter)

    def pop(self, waiter: Waiter) -> None:
        """Take out the one whose turn it was; its client's next turn is the last."""
        clients = self._models[waiter.demand.key]
        line = clients.pop(waiter.client)
        line.remove(waiter)
        if line:
            clients[waiter.client] = line
        self._drop_if_empty(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Take out one that left; turns stay as they are."""
        clients = self._models[waiter.demand.key]
        clients[waiter.client].remove(waiter)
        if not clients[waiter.client]:
            del clients[waiter.client]
        self._drop_if_empty(waiter)

    def crowding_out(self, newcomer: Waiter) -> Waiter | None:
        """Who gives way to a newcomer when the queue is full: the last of the client that waits most often, if that is more
        often than the newcomer's own. So nobody can fill the queue alone.
        """
        lines: dict[str, list[Waiter]] = {}
        for clients in self._models.values():
            for client, line in clients.items():
                lines.setdefault(client, []).extend(line)
        longest = max(lines.values(), key=len)
        if len(longest) <= len(lines[newcomer.client]):
            return None
        return max(longest, key=lambda waiter: waiter.number)

    def _drop_if_empty(self, waiter: Waiter) -> None:
        if not self._models[waiter.demand.key]:
            del self._models[waiter.demand.key]

    def clear(self) -> list[Waiter]:
        """Take out everybody."""
        waiters = [waiter for clients in self._models.values() for line in clients.values() for waiter in line]
        self._models.clear()
        return waiters
