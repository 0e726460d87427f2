"""Random walks over a machine whose cards misbehave: whatever happens, nobody waits for ever and what is planned is there."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow.errors import SerowError
from serow.options import LoadOptions
from serow.scheduler.scheduler import Scheduler
from serow.store.model import Model
from tests.scheduler.machine import GIB, Cards, MachineWithCards, Request, layered, model
from tests.scheduler.virtual import VirtualLoop, settle

PATIENCE = 600.0  # virtual seconds for somebody to get his turn, once all is well again
MODELS: dict[str, Model] = {
    **{name: layered(name, size * GIB) for name, size in (("m", 1), ("n", 3), ("o", 5), ("p", 9))},
    "q": model("q", 3 * GIB, capabilities=("image",)),
}


@dataclass
class Walk:
    """A machine, its scheduler, and the clients that are there."""

    here: MachineWithCards
    scheduler: Scheduler
    clients: list[Request]

    @property
    def cards(self) -> Cards:
        return self.here.cards

    def end_one(self) -> None:
        """The first that has its place leaves it."""
        if running := [client for client in self.clients if client.is_running]:
            running[0].ending.set()
            self.clients.remove(running[0])

    def kill_one(self) -> None:
        """An engine dies by itself: nobody tells us."""
        for engine in self.here.engines:
            if engine.is_alive:
                engine.is_alive = False
                self.cards.give_back(engine)
                return

    def vanish(self) -> None:
        """The last card is not there any more, and no engine that held some of it lives."""
        if len(self.cards.memory) > 1:
            name, _ = self.cards.memory.popitem()
            for engine in self.here.engines:
                if engine.is_alive and any(use.id == name for use in engine.request.uses):
                    engine.is_alive = False
                    self.cards.give_back(engine)

    def take(self) -> None:
        """Another program takes what it can of the first card, up to 3 GiB."""
        name = next(iter(self.cards.memory))
        self.cards.others[name] = self.cards.others.get(name, 0) + min(3 * GIB, max(0, self.cards.free(name)))

    def hush(self) -> None:
        """The driver hangs."""
        self.cards.is_silent = True

    def be_slow(self) -> None:
        """The driver takes its time to give back what was held."""
        self.cards.delay = 2.0

    def mend(self) -> None:
        """All is well again."""
        self.cards.is_silent, self.cards.delay = False, 0.0
        self.cards.others.clear()


EVENTS: dict[str, Callable[[Walk], None]] = {
    "end one": Walk.end_one,
    "kill one": Walk.kill_one,
    "vanish": Walk.vanish,
    "take": Walk.take,
    "hush": Walk.hush,
    "be slow": Walk.be_slow,
    "mend": Walk.mend,
}
OPTIONS = st.sampled_from(
    [
        LoadOptions(),
        LoadOptions(),
        LoadOptions(num_gpu=3),
        LoadOptions(num_gpu=0),
        LoadOptions(num_gpu=10**9),
        LoadOptions(main_gpu=1),
    ]
)
STEPS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(list(EVENTS)), st.tuples(st.sampled_from(list(MODELS)), OPTIONS)),
        st.sampled_from([0.0, 0.001, 0.3, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=14,
)


async def go(walk: Walk, steps: list[tuple[str | tuple[str, LoadOptions], float]]) -> None:
    """One step after the other, each with a pause behind it."""
    for step, pause in steps:
        if isinstance(step, str):
            EVENTS[step](walk)
        else:
            walk.clients.append(Request(walk.scheduler, MODELS[step[0]], options=step[1]))
        await asyncio.sleep(pause)
        assert all(walk.cards.free(name) >= 0 for name in walk.cards.memory)


async def finish(walk: Walk) -> None:
    """Everybody gets his place or an error in words, one after the other."""
    while walk.clients:
        begun = [asyncio.ensure_future(client.begun()) for client in walk.clients]
        done, _ = await asyncio.wait(begun, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert done, "nobody gets his turn"
        for each in begun:
            each.cancel()
        for client in [each for each, result in zip(walk.clients, begun, strict=True) if result in done]:
            walk.clients.remove(client)
            with suppress(SerowError):
                await client.end()


@pytest.mark.req("DEV-01", "DEV-03", "DEV-04", "DEV-07")
@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([(4, 4), (12, 3), (6, 6), (10, 2)]), st.booleans())
def test_whatever_cards_do_everybody_is_answered_and_the_next_one_is_planned_with_what_is_there(
    steps: list[tuple[str | tuple[str, LoadOptions], float]], sizes: tuple[int, int], spread: bool
) -> None:
    async def walk() -> None:
        here = MachineWithCards(a=sizes[0], b=sizes[1])
        async with asyncio.timeout(7200), here.scheduler(num_parallel=2, spread=spread) as scheduler:
            walked = Walk(here, scheduler, [])
            await go(walked, steps)
            walked.mend()
            await finish(walked)
            for name in MODELS:
                await scheduler.unload(MODELS[name])
            await settle()
            assert scheduler.loaded() == []
            assert all(walked.cards.free(name) == size for name, size in walked.cards.memory.items())
            last = await Request(scheduler, MODELS["m"]).begun()
            (loaded,) = scheduler.loaded()
            assert sum(use.layers for use in loaded.uses) == MODELS["m"].layers.count
            await last.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(walk())
