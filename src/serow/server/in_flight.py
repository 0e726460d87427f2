"""Bytes of bodies whose requests are not answered yet: bounded for the whole server and for each client (RES-07)."""

import asyncio
from collections import Counter

from serow.errors import Unavailable
from serow.server.exchange import Exchange
from serow.system.limits import give_memory_back

_LARGE = 8 << 20  # bytes of bodies after which memory is given back


class InFlight:
    """What all hold together, and each client at most half of that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_client: Counter[str] = Counter()
        self._most_held = 0  # since nobody held anything
        self.turn = asyncio.Lock()  # to decode a large body: while that goes on it takes several times its bytes

    def hold(self, exchange: Exchange, client: str, size: int) -> None:
        """Count more bytes of a request's body; raises Unavailable when there is no room for them."""
        if self._by_client.total() + size > self._most:
            raise Unavailable("server busy, please try again: requests in flight hold too many bytes")
        if self._by_client[client] + size > self._most // 2:
            raise Unavailable("please try again: your requests in flight hold too many bytes")
        exchange.holder, exchange.held = client, exchange.held + size
        self._by_client[client] += size
        self._most_held = max(self._most_held, self._by_client.total())

    def release(self, exchange: Exchange) -> None:
        """The request is over."""
        if exchange.held:
            self._by_client[exchange.holder] -= exchange.held
            if not self._by_client[exchange.holder]:
                del self._by_client[exchange.holder]
        if not self._by_client and self._most_held > _LARGE:
            self._most_held = 0
            asyncio.get_running_loop().run_in_executor(None, give_memory_back)
