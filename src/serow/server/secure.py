"""Where we listen with TLS. Handshakes are counted by address: who begins many and ends none takes nobody else's place.

asyncio's own servers tell nobody of a connection before its handshake is over.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from serow.server.address import network_of
from serow.server.connection import change
from serow.settings import Settings

LONGEST_HANDSHAKE = 10.0  # seconds
_PAUSE = 1.0  # seconds without a descriptor to accept a connection with

logger = logging.getLogger(__name__)


class SecureListener:
    """What uvicorn asks of a server: its sockets, and that it ends. `make` makes the protocol of each connection."""

    def __init__(self, make: Callable[[], asyncio.Protocol], context: ssl.SSLContext, settings: Settings) -> None:
        self.sockets: list[socket.socket] = []
        self._make = make
        self._context = context
        self._settings = settings
        self._handshakes: Counter[str] = Counter()  # that have not ended, by network
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int, backlog: int) -> None:
        """Accept connections at every address of a name; raises OSError."""
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(infos):
                self.sockets.append(socket.create_server(address[:2], family=family, backlog=backlog))
        except OSError:
            self.close()
            raise
        for each in self.sockets:
            each.setblocking(False)
            self._begin(self._accept(each))

    def close(self) -> None:
        """Accept nothing more; handshakes that have not ended end."""
        for task in self._tasks:
            task.cancel()
        for each in self.sockets:
            each.close()

    async def wait_closed(self) -> None:
        """Until all has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("no connection can be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            network = network_of(address[0])
            if self._are_too_many(network):
                connection.close()
            else:
                change(self._handshakes, network, 1)
                self._begin(self._secure(connection, network))

    def _are_too_many(self, network: str) -> bool:
        own, every = self._handshakes[network], self._handshakes.total()
        return own >= self._settings.client_connections or every >= self._settings.max_connections

    async def _secure(self, connection: socket.socket, network: str) -> None:
        """Shake hands; what follows is the protocol's."""
        timeout = min(LONGEST_HANDSHAKE, self._settings.read_timeout)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=timeout
            )
        except OSError:
            pass  # broken off, too slow, or no TLS at all: the loop has closed it
        finally:
            change(self._handshakes, network, -1)
