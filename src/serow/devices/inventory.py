"""The devices of this machine, looked at once and measured again before each decision.

Who looks is a child with a deadline. Until the first look is over, and where it finds nothing, there are no devices, and
everything runs on the CPU; a machine without a trace of a card never starts one.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from serow.devices.asking import PAUSE, CardReader, ask, environment, probe
from serow.devices.cards import has_traces
from serow.devices.device import Card, Device, Listed, Listing, Vendor, used_by
from serow.devices.listing import parse_listing
from serow.devices.match import match

_LIST_DEADLINE = 20.0  # seconds for an engine to list its devices: a driver that compiles its first program takes some
_TORCH_DEADLINE = 60.0  # to import torch
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """An engine that can tell its devices: by its executable, or by our own child that asks a `source`.

    Without either its devices are the cards that their driver tells of: it would take a minute to start. Nobody waits for one
    that is slow but who needs it.
    """

    engine: str
    executable: Path | None = None
    source: str = ""
    seconds: float = _LIST_DEADLINE
    is_slow: bool = False

    async def list(self) -> Listing:
        """What it lists; the words where it tells nothing."""
        argv = probe(self.source) if self.executable is None else (str(self.executable), "--list-devices")
        said = await ask(argv, self.seconds, environment())
        if said is None:
            return Listing(engine=self.engine, fault=f"{self.engine} could not list its devices within {self.seconds:g} s")
        try:
            devices = parse_listing(said) if self.executable else tuple(msgspec.json.decode(said, type=list[Listed]))
        except msgspec.DecodeError:
            return Listing(engine=self.engine, fault=f"{self.engine} did not list its devices as it should")
        return Listing(engine=self.engine, devices=devices)


WHEEL = Asked("wheel", source="wheel")
PICTURES = Asked("diffusers", source="torch", seconds=_TORCH_DEADLINE, is_slow=True)
VLLM = Asked("vllm")
_PREFIXES: dict[Vendor, str] = {"nvidia": "CUDA", "amd": "ROCm"}  # what vLLM is built for


class Inventory:
    """What there is to run on. An async context manager; `devices` is the last measurement, `refresh` makes a new one.

    `engines` names those that may have devices. `is_worth_a_look` says whether there is anything to look for.
    """

    def __init__(
        self,
        engines: Callable[[], Sequence[Asked]] = lambda: (WHEEL, PICTURES),
        is_worth_a_look: Callable[[], bool] = has_traces,
        reader: CardReader | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._engines = engines
        self._is_worth_a_look = is_worth_a_look
        self._reader = reader or CardReader()
        self._environ = environ
        self._cards: list[Card] = []
        self._asked: list[Asked] = []
        self._listings: dict[Asked, Listing] = {}
        self._failed_at: dict[Asked, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._late: dict[Asked, asyncio.Task[None]] = {}  # what is slow, and has not answered yet
        self._was_told = False
        self.devices: tuple[Device, ...] = ()

    async def __aenter__(self) -> Self:
        """Begin to look; nobody waits for it."""
        if self.may_have_devices:
            self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whoever looks."""
        tasks = [*filter(None, (self._task,)), *self._late.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reader.close()

    @property
    def may_have_devices(self) -> bool:
        """Whether there is a trace of a card, or an engine that was built for one."""
        return self._is_worth_a_look() or any(asked.executable for asked in self._engines())

    @property
    def faults(self) -> list[str]:
        """In words: what did not tell what it should, so that a device may be missing."""
        own = "the driver of a GPU does not answer: what is told of its memory comes from the engines"
        said = [listing.fault for listing in self._listings.values() if listing.fault]
        return [own, *said] if self._reader.is_hung else said

    async def refresh(self, seconds: float = 5.0, engine: str | None = None) -> bool:
        """Measure again; False when it is not done in time: it goes on, and what was measured last holds until then.

        Of what is slow only that of the `engine` is waited for, of all engines where none is named.
        """
        deadline = time.monotonic() + seconds
        if self._task is None or self._task.done():
            self._begin()
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=seconds)
        late = [task for asked, task in self._late.items() if engine in (None, asked.engine)]
        if late:
            await asyncio.wait(late, timeout=max(0.0, deadline - time.monotonic()))
        return all(task.done() for task in (self._task, *late))

    def doubt(self, engine: str) -> str:
        """In words why nothing is known of an engine's devices; "" where something is, or it can have none."""
        own = [asked for asked in self._asked or self._engines() if asked.engine == engine]
        if not own or not self.may_have_devices:
            return ""
        known = self._listings.get(own[0])
        return known.fault if known else "what GPUs there are was not known in time"

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._look(), name="looking at devices")

    async def _look(self) -> None:
        """Ask the drivers; ask engines that were not asked yet, and those by which a device is measured."""
        is_worth_it = self._is_worth_a_look()
        cards = await self._reader.read() if is_worth_it else []
        if [card.id for card in cards] != [card.id for card in self._cards]:  # engines may count them anew
            self._listings.clear()
            for task in self._late.values():
                task.cancel()
            self._late.clear()
        self._cards = cards
        self._asked = [each for each in self._engines() if each.executable or is_worth_it]
        due = [each for each in self._asked if self._is_due(each)]
        for each in due:
            if each.is_slow and each not in self._late:
                self._late[each] = asyncio.create_task(self._look_late(each), name=f"devices of {each.engine}")
        await asyncio.gather(*(self._ask(each) for each in due if not each.is_slow))
        self._match()

    async def _look_late(self, asked: Asked) -> None:
        await self._ask(asked)
        del self._late[asked]
        self._match()

    async def _ask(self, asked: Asked) -> None:
        if asked.executable is None and not asked.source:
            self._listings[asked] = Listing(engine=asked.engine, devices=tuple(_as_listed(self._cards)))
            return
        listing = self._listings[asked] = await asked.list()
        if listing.fault:
            self._failed_at[asked] = time.monotonic()
        else:
            self._failed_at.pop(asked, None)

    def _is_due(self, asked: Asked) -> bool:
        """Whether it is to be asked: it was not yet, what is free is known by it alone, or its last answer was a fault."""
        known = self._listings.get(asked)
        if known is None or not (asked.executable or asked.source):
            return True
        is_measure = any(each.measured_by == asked.engine for each in self.devices)
        return is_measure or time.monotonic() - self._failed_at.get(asked, math.inf) >= PAUSE

    def _match(self) -> None:
        listings = [self._listings[each] for each in self._asked if each in self._listings]
        self.devices = match(self._cards, listings, self._environ, is_hung=self._reader.is_hung)
        if not self._late:
            self._tell()

    def _tell(self) -> None:
        """One line in the log about each device that was found, when it was found first."""
        if self._was_told:
            return
        self._was_told = True
        for device in self.devices:
            use = used_by(device.handles, device.reason)
            _log.info("device %s: %d of %d MiB free; %s", device.name, device.free >> 20, device.total >> 20, use)


def _as_listed(cards: Sequence[Card]) -> Iterator[Listed]:
    """Cards by their drivers' own numbers."""
    for card in cards:
        if card.vendor in _PREFIXES and card.driver:
            name = f"{_PREFIXES[card.vendor]}{card.index}"
            yield Listed(name, card.name, card.total, card.free, card.uuid or card.pci)
