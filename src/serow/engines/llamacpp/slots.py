"""The slots of a llama.cpp server: restored from what was saved when the model was last in memory, saved when it leaves."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from serow.engines.attention import packed
from serow.engines.base import LoadRequest
from serow.engines.llamacpp.slot_cache import SlotPlace
from serow.errors import EngineDied, SerowError

T = TypeVar("T")
LEAST_TOKENS = 64  # read again faster than they are worth a file
SAVE_TIME = 5.0  # seconds that saving may take: the next model may be waiting for the memory
RESTORE_TIME = 5.0  # seconds after which no further slot is restored
_ANSWER_TIME = 2.0  # seconds for an engine to say that it has restored a slot,
_SLOWEST = 50 << 20  # after reading so many bytes a second
_log = logging.getLogger(__name__)


class Ask(Protocol):
    """Asks the engine, as LlamaRunner does."""

    async def __call__(self, method: str, path: str, body: Any, kind: type[T]) -> T: ...


class _Slot(Struct):
    """One slot as the engine tells of it."""

    id: int
    id_task: int = -1  # of its latest request; the higher, the later
    is_processing: bool = False
    n_prompt_tokens: int = 0  # that it holds, prompt and answer; told once it has had a request


class _Done(Struct):
    n_saved: int = 0
    n_restored: int = 0


class SlotKeeper:
    """The slots of one loaded model: `open`, `restore`, `save`, `close`. Without a place nothing is kept."""

    def __init__(self, place: SlotPlace | None, request: LoadRequest, ask: Ask) -> None:
        self._place = place
        self._ask = ask
        self._token_size = packed(request.model.kv_bytes, request.flags)
        ids = range(request.num_parallel)
        self._ids = ids if request.engine.kind.takes_last_slot else ids[::-1]
        self._restored: dict[int, int] = {}  # tokens by slot, 0 where it failed

    @property
    def path(self) -> str:
        """The directory that the engine is to use, "" for none."""
        return str(self._place.path) if self._place else ""

    async def open(self) -> None:
        """Make that directory, before the engine starts."""
        try:
            if self._place:
                await asyncio.to_thread(self._place.open)
        except OSError as error:
            _log.warning("prompts are not kept over an unload: %s", error.strerror)
            self._place = None

    async def restore(self) -> None:
        """Fill slots, those first that new prompts get last.

        Raises EngineDied or TimeoutError when the engine falls over what it is given, or hangs on it.
        """
        began = time.monotonic()
        if self._place:
            with _disk_errors():
                await self._restore_all(self._place, began + RESTORE_TIME)
        if any(self._restored.values()):
            _log.info("restored %d tokens in %.2f s", sum(self._restored.values()), time.monotonic() - began)

    def forget(self) -> bool:
        """The engine is gone; whether it had been given something to restore."""
        was_given = bool(self._restored)
        self._restored.clear()
        return was_given

    async def save(self, num_ctx: int) -> None:
        """Save what is worth it of slots of `num_ctx` tokens, the most recently used first, while time and room last."""
        if not self._place:
            return
        try:
            async with asyncio.timeout(SAVE_TIME):
                with _disk_errors():
                    await self._save_all(self._place, num_ctx)
        except TimeoutError:
            _log.warning("the slots could not all be saved within %g seconds", SAVE_TIME)
        except SerowError as error:
            _log.warning("the slots could not be saved: %s", error)
            self._place.discard()

    async def close(self) -> None:
        """Put what was saved where the next load finds it, once the engine has ended."""
        if self._place:
            with _disk_errors():
                await asyncio.to_thread(self._place.close)

    async def _restore_all(self, place: SlotPlace, deadline: float) -> None:
        for rank, (slot, size) in enumerate(zip(self._ids, await asyncio.to_thread(place.saved), strict=False)):
            if time.monotonic() < deadline:
                await self._restore(place, slot, rank, size)

    async def _restore(self, place: SlotPlace, slot: int, rank: int, size: int) -> None:
        name = await asyncio.to_thread(place.take, rank, size)
        try:
            if name:
                self._restored[slot] = 0
                async with asyncio.timeout(_ANSWER_TIME + size / _SLOWEST):
                    self._restored[slot] = (await self._act(slot, "restore", name)).n_restored
        except EngineDied:
            raise
        except SerowError:
            _log.warning("the engine refused a saved slot")
        finally:
            await asyncio.to_thread(place.empty)

    async def _save_all(self, place: SlotPlace, num_ctx: int) -> None:
        for slot in self._worthy(await self._ask("GET", "/slots", None, list[_Slot]), num_ctx):
            name = await asyncio.to_thread(place.make_room, self._token_size * self._tokens(slot))
            if name:
                await self._act(slot.id, "save", name)
                await asyncio.to_thread(place.keep)

    async def _act(self, slot: int, action: str, name: str) -> _Done:
        return await self._ask("POST", f"/slots/{slot}?action={action}", {"filename": name}, _Done)

    def _worthy(self, slots: Iterable[_Slot], num_ctx: int) -> list[_Slot]:
        """Those to save, the most recently used first.

        Not those as full as the context: ik_llama.cpp counts on when the context of a request without prompt cache is shifted.
        """
        idle = [slot for slot in slots if not slot.is_processing]
        worthy = [slot for slot in idle if LEAST_TOKENS <= self._tokens(slot) < num_ctx - 1]
        return sorted(worthy, key=lambda slot: (-slot.id_task, self._ids.index(slot.id)))

    def _tokens(self, slot: _Slot) -> int:
        """How many it holds; of one that only was restored llama.cpp does not tell."""
        return slot.n_prompt_tokens if slot.id_task >= 0 else self._restored.get(slot.id, 0)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk that fails, or is full, keeps nobody from loading or leaving."""
    try:
        yield
    except TimeoutError:  # an OSError too, and the engine's
        raise
    except OSError as error:
        _log.warning("the disk of the saved slots failed: %s", error.strerror)
