"""A proxy before a server: hands on what comes, piece by piece, and tells of each exchange that is over."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

HOP = ("host", "connection", "content-length", "transfer-encoding", "keep-alive")


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, as far as the client has read it: `is_whole` tells whether that is all."""

    request: web.Request
    body: bytes  # unpacked
    status: int
    content_type: str
    answer: bytes
    is_whole: bool


@asynccontextmanager
async def passing(target: str, note: Callable[[Exchange], None]) -> AsyncIterator[str]:
    """Listen before a server; yields the address to ask."""
    async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            left_out = (*HOP, "content-encoding")
            headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
            url = f"{target}{request.path_qs}"
            async with session.request(request.method, url, data=body or None, headers=headers) as answer:
                passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
                response = web.StreamResponse(status=answer.status, headers=passed)
                pieces: list[bytes] = []
                is_whole = False
                try:
                    await response.prepare(request)
                    async for piece in answer.content.iter_any():
                        pieces.append(piece)
                        await response.write(piece)
                    await response.write_eof()
                    is_whole = True
                finally:
                    note(Exchange(request, body, answer.status, answer.content_type, b"".join(pieces), is_whole))
                return response

        async with listening(handle) as url:
            yield url


@asynccontextmanager
async def listening(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The address of a server with one handler for everything; who leaves ends the handler's work."""
    application = web.Application(client_max_size=1 << 28)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
