"""Connections to registries, which may answer with interim responses (1xx) for ever: after a few of them we hang up.

aiohttp reads all of them before it gives the loop back to anybody else.
"""

import functools
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

MOST_INTERIM = 20  # responses before the one that counts


class Connector(aiohttp.TCPConnector):
    """aiohttp's, whose connections are bounded so."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        handler: type[ResponseHandler] = _Handler
        self._factory = functools.partial(handler, loop=self._loop)


class _Handler(ResponseHandler):
    _num_interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        """One response, its body as it comes."""
        status = data[0].code
        is_interim = status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS
        self._num_interim = self._num_interim + 1 if is_interim else 0
        if self._num_interim <= MOST_INTERIM:
            super().feed_data(data, size)
        elif self.transport is not None:
            self.set_exception(HttpProcessingError(message="too many interim responses"))
            self.transport.abort()
