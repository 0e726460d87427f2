"""Connections on which TLS has not begun: counted and given up like others, before a handshake costs anything.

uvicorn learns of a connection when its handshake is over. Until then it would have no address, no limit and no end.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from serow.server.address import network_of
from serow.server.connection import Clients, change
from serow.settings import Settings


def secured(
    make: Callable[..., asyncio.Protocol], context: ssl.SSLContext, settings: Settings, clients: Clients
) -> type[asyncio.Protocol]:
    """The protocol of plain connections that become those of `make` by TLS."""
    return cast(type[asyncio.Protocol], partial(Handshake, make, context, settings, clients))


class Handshake(asyncio.Protocol):
    """A connection until TLS has begun. Who is one too many is dropped: without TLS nothing can be said."""

    def __init__(
        self,
        make: Callable[..., asyncio.Protocol],
        context: ssl.SSLContext,
        settings: Settings,
        clients: Clients,
        **options: Any,
    ) -> None:
        self._make = partial(make, **options)
        self._context = context
        self._settings = settings
        self._clients = clients
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        plain = cast(asyncio.Transport, transport)
        address = plain.get_extra_info("peername")
        network = network_of(address[0] if isinstance(address, tuple) else "")
        open_, beginning = self._clients.connections, self._clients.handshakes
        is_one_too_many = (
            open_.total() + beginning.total() >= self._settings.max_connections
            or open_[network] + beginning[network] >= self._settings.client_connections
        )
        if is_one_too_many:
            plain.abort()
            return
        change(beginning, network, 1)
        self._task = asyncio.get_running_loop().create_task(self._begin(plain, network))

    async def _begin(self, plain: asyncio.Transport, network: str) -> None:
        protocol, loop = self._make(), asyncio.get_running_loop()
        try:
            timeout = self._settings.read_timeout
            secure = await loop.start_tls(plain, protocol, self._context, server_side=True, ssl_handshake_timeout=timeout)
        except OSError:  # ssl.SSLError and TimeoutError are
            plain.abort()
        else:
            if secure is not None and not secure.is_closing():
                protocol.connection_made(secure)
        finally:
            change(self._clients.handshakes, network, -1)
