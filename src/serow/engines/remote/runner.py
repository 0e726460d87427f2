"""A language model in an engine on another machine.

It starts nothing and ends nothing. A request goes to the first of its addresses that takes a connection; which replica works
is the business of the router that stands there.
"""

import time

import aiohttp

from serow.engines.base import LoadRequest
from serow.engines.process import finite
from serow.engines.remote.completions import CompletionsRunner
from serow.errors import EngineError, EngineUnreachable
from serow.settings import Settings
from serow.store.engine_address import Address, addresses_of, check_allowed, key_of
from serow.workers.pool import Pool

CONNECT_TIMEOUT = 5.0  # seconds
REST = 2.0  # seconds in which an address that took no connection is asked only when no other is left
_KEPT = 2.0  # seconds that an idle connection stays: less than engines keep it, whose end would meet a request


class RemoteRunner(CompletionsRunner):
    """A model at its addresses. What its process holds is not ours to know."""

    pid = 0
    size = 0

    def __init__(self, request: LoadRequest, settings: Settings, pool: Pool) -> None:
        model = request.model
        self._addresses = addresses_of(model.remote_host)
        self._address = ", ".join(map(str, self._addresses))
        super().__init__(model, model.remote_model, f"the engine at {self._address}", pool, settings.stall_timeout)
        self._settings = settings
        self._secrets = tuple(filter(None, (key_of(each, settings.remote_keys) for each in self._addresses)))
        self._resting: dict[Address, float] = {}  # until when
        self._session: aiohttp.ClientSession | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it can take requests: each one finds out for itself whether its engine does."""
        return self._session is not None

    async def load(self) -> None:
        """Learn whether the engine can be asked, and look at it; raises EngineUnreachable, RequestError, LoadError."""
        check_allowed(self._addresses, self._settings.remotes, is_offline=self._settings.offline)
        await super().load()

    async def _start(self) -> None:
        """Open a session, which asks nothing yet."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=finite(self._settings.stall_timeout))
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT), auto_decompress=False
        )

    async def close(self) -> None:
        """Let go of the connections; the engine goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _broken(self) -> EngineError:
        return EngineUnreachable(f"{self._engine} broke off its answer", hint="ask again")

    async def _connect(self, method: str, path: str, data: bytes | None) -> aiohttp.ClientResponse:
        if self._session is None:
            raise EngineUnreachable(f"the connection to {self._engine} is closed")
        now = time.monotonic()
        rested = [each for each in self._addresses if self._resting.get(each, 0.0) <= now]
        for address in rested or self._addresses[:1]:
            key = key_of(address, self._settings.remote_keys)
            headers = {
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            }
            try:
                return await self._session.request(
                    method, f"{address.url}{path}", data=data, headers=headers, allow_redirects=False
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._resting[address] = time.monotonic() + REST
            except (aiohttp.ClientError, TimeoutError):  # it may have begun the work: nobody else is to do it again
                break
        raise EngineUnreachable(
            f"{self._engine} does not answer", hint="start it, or look at its log; the next request tries again"
        )
