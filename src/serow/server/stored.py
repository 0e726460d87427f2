"""Answers of /v1/responses that a later request may follow: in memory, bounded in number, bytes and time (RESP-07)."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serow.wire.json import encode
from serow.wire.responses import Memory
from serow.wire.responses_input import Item

MOST_ANSWERS = 1000
MOST_BYTES = 256 << 20
LIFETIME = 3600.0  # seconds


@dataclass(frozen=True)
class Stored:
    """An answer, and the items of its conversation up to its end. `size` in bytes of JSON."""

    client: str
    response: dict[str, Any]
    items: tuple[Item, ...]
    size: int
    stored_at: float

    def item(self, ident: str) -> Item | None:
        """An item of the conversation by its id."""
        return next((each for each in self.items if each.get("id") == ident), None)


class StoredAnswers:
    """The newest answers. Each belongs to the client that asked; to others it is not there."""

    def __init__(
        self, most: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._answers: OrderedDict[str, Stored] = OrderedDict()  # the oldest first
        self._size = 0

    def __len__(self) -> int:
        return len(self._answers)

    def keep(self, client: str, items: Sequence[Item], response: dict[str, Any], asked: int) -> None:
        """Keep an answer and what it was the answer to, of which `asked` bytes are new.

        One that is larger than all memory for them is not kept.
        """
        before = self._answers.get(response["previous_response_id"] or "")
        size = asked + len(encode(response)) + (before.size if before else 0)
        if size > self._most_bytes:
            return
        self._answers[response["id"]] = Stored(client, response, (*items, *response["output"]), size, self._clock())
        self._size += size
        self._sweep()

    def find(self, client: str, ident: str) -> Stored | None:
        """An answer of this client."""
        self._sweep()
        found = self._answers.get(ident)
        return found if found is not None and found.client == client else None

    def forget(self, client: str, ident: str) -> bool:
        """Remove an answer of this client; whether it was there."""
        if self.find(client, ident) is None:
            return False
        self._remove(ident)
        return True

    def memory(self, client: str) -> Memory:
        """What this client may refer to."""

        def items_of(ident: str) -> Sequence[Item] | None:
            found = self.find(client, ident)
            return None if found is None else found.items

        def item(ident: str) -> Item | None:
            own = (each.item(ident) for each in reversed(self._answers.values()) if each.client == client)
            return next((each for each in own if each is not None), None)

        return Memory(items_of, item)

    def _sweep(self) -> None:
        """Let the oldest go while there are too many, they are too large or too old."""
        oldest = self._clock() - LIFETIME
        while self._answers:
            ident, first = next(iter(self._answers.items()))
            if len(self._answers) <= self._most and self._size <= self._most_bytes and first.stored_at > oldest:
                return
            self._remove(ident)

    def _remove(self, ident: str) -> None:
        self._size -= self._answers.pop(ident).size
