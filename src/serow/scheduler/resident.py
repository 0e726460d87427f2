"""One model in memory, from the decision to load it until its process is gone.

    LOADING -> READY -> CLOSING

Requests `take` a place, also while it loads, and `give_back` it. After `retire` it takes no more and closes when the last
place is given back; after `abort` it closes at once.
"""

import asyncio
import copy
import math
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

from serow.devices.use import Use
from serow.engines.base import LoadRequest, Runner
from serow.engines.kinds import Feature
from serow.errors import SerowError
from serow.options import LoadOptions
from serow.scheduler.footprint import Footprint
from serow.scheduler.notices import Notices
from serow.store.model import Model

_MAKESHIFT = 60.0  # seconds that a model stays where it is before it is asked whether it would lie better elsewhere by now

Key = tuple[Path | bool | str | None, ...]


def key_of(model: Model, *, embeds: bool = False) -> Key:
    """What is in memory when the model is loaded: names that differ only in template, system or parameters share it.

    A model that completes texts is loaded a second time to embed them.
    """
    return embeds, model.remote_host, model.remote_model, model.weights, model.projector, *model.adapters


@dataclass(frozen=True)
class Demand:
    """What a request asks the scheduler for: a model, loaded so that it serves. `alone`: nobody else runs on it meanwhile."""

    model: Model
    options: LoadOptions
    needs: frozenset[Feature] = frozenset()
    alone: bool = False

    @property
    def embeds(self) -> bool:
        """Whether vectors are wanted, not text."""
        return Feature.EMBEDDINGS in self.needs

    @property
    def key(self) -> Key:
        """Demands of the same key are met by the same weights in memory."""
        return key_of(self.model, embeds=self.embeds)


class State(Enum):
    """Where a resident is in its life; it only ever moves down this list."""

    LOADING = "loading"
    READY = "ready"
    CLOSING = "closing"


@dataclass(eq=False)
class Resident:
    """A model in memory, and the requests that have a place in it. Times are the event loop's, in seconds."""

    request: LoadRequest
    memory: Footprint  # the estimate while it loads, then what it holds if that is more
    uncounted: Footprint = field(default_factory=Footprint)  # what of `memory` the system still counts as free
    keep_alive: float = 0.0  # seconds; math.inf for ever
    state: State = State.LOADING
    is_leaving: bool = False
    num_running: int = 0
    is_alone: bool = False  # the one request that runs wants nobody beside it
    last_used: float = 0.0
    expires_at: float = math.inf
    uses: tuple[Use, ...] = ()  # what devices hold: planned while it loads, then as the engine says
    is_automatic: bool = True  # no request has named the context
    is_makeshift: bool = False  # it lies where it does because a device was not known of, or taken by others
    considered_at: float = 0.0  # when it was last thought of to load it anew
    notices: Notices = field(default_factory=Notices)
    runner: Runner | None = None
    error: SerowError | None = None
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @cached_property
    def key(self) -> Key:
        """Two residents of the same key hold the same weights."""
        return key_of(self.request.model, embeds=self.request.embeds)

    @cached_property
    def is_remote(self) -> bool:
        """Whether it runs elsewhere: it takes no memory here, and stays."""
        return self.request.model.is_remote

    def has_place(self, *, alone: bool) -> bool:
        """Whether one more request may run, `alone` or with the others."""
        return self.num_running == 0 if alone else not self.is_alone and self.num_running < self.request.num_parallel

    @property
    def is_dead(self) -> bool:
        """Whether the engine ended by itself."""
        return self.state is State.READY and self.runner is not None and not self.runner.is_alive

    def measured(self, private: int, uses: tuple[Use, ...]) -> None:
        """It is loaded: so many bytes of main memory are its own, and so much of each device; drivers count that as taken.

        What a driver holds beside, which is a guess, is not promised to whoever comes after it.
        """
        self.uses = uses
        self.memory = Footprint(max(self.memory.main, private), {use.id: use.size for use in uses})
        self.uncounted = Footprint(self.memory.main - private)

    def holds_nothing(self) -> None:
        """Its process has ended: what it held is free by now."""
        self.memory = self.uncounted = Footprint()

    def shrink(self, request: LoadRequest, *, is_makeshift: bool) -> None:
        """It is loaded anew with less on devices, or with a smaller context."""
        self.request, self.uses, self.is_makeshift = request, request.uses, is_makeshift
        main = max(self.memory.main, request.memory)
        self.memory = self.uncounted = Footprint(main, {use.id: use.size for use in request.uses})

    def sizes(self, runner: Runner) -> tuple[int, int]:
        """Bytes that it holds, and how many of them on devices, as /api/ps tells them.

        A model that devices hold whole counts as theirs altogether, though its input stays in main memory (as the peer has it).
        """
        if not self.uses:
            return runner.size, 0
        on_devices = sum(use.size for use in self.uses)
        everything = max(runner.report.size, on_devices) or on_devices
        is_whole = sum(use.layers for use in self.uses) == self.request.num_layers
        return everything, everything if is_whole else on_devices

    def is_due(self, now: float) -> bool:
        """Whether a request may have it loaded anew where it lies better: it is makeshift, and nobody uses it."""
        is_idle = self.state is State.READY and not self.num_running
        return self.is_makeshift and is_idle and now >= self.considered_at + _MAKESHIFT

    def take(self, now: float, keep_alive: float | None, *, alone: bool = False) -> None:
        """Give a request a place; None keeps the duration (GEN-05)."""
        if self.is_due(now):  # and stays
            self.considered_at = now
        self.num_running += 1
        self.is_alone = alone
        self.last_used = now
        self.expires_at = math.inf
        if keep_alive is not None and not self.is_remote:
            self.keep_alive = keep_alive

    def give_back(self, now: float) -> None:
        """End one request; the clock starts when it was the last."""
        self.num_running -= 1
        self.is_alone = False
        self.rest(now)

    def rest(self, now: float) -> None:
        """Start the clock, or let go, if nobody is there."""
        if self.num_running:
            return
        if self.is_leaving:
            self.unused.set()
        elif self.state is State.READY:
            self.expires_at = now + self.keep_alive

    def retire(self) -> None:
        """Take no more requests; close after the last."""
        self.is_leaving = True
        if not self.num_running:
            self.unused.set()

    def abort(self) -> None:
        """Close now, whoever runs."""
        self.is_leaving = True
        self.unused.set()
        if self.state is State.LOADING and self.task is not None:
            self.task.cancel()

    async def ready(self) -> Runner:
        """Wait until it is loaded; raises what kept it from that."""
        await self.loaded.wait()
        if self.error is not None:
            raise copy.copy(self.error)  # each request its own: a shared one would collect tracebacks
        assert self.runner is not None
        return self.runner
