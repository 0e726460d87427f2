"""Exchanges with a real vLLM: a proxy that keeps them, and an engine that answers as they say.

A line of the file is one exchange: method and path, the request's JSON, status, content type and the bytes of the answer as
text. Equal requests have one line; times and ids in the answers are the engine's own.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

RECORDED = Path(__file__).parent / "recorded.jsonl"


def _key(method: str, path: str, body: Any) -> str:
    return json.dumps([method, path, body], sort_keys=True)


class Recorder:
    """Passes requests on to an engine and keeps what it answers, as far as the client reads."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.exchanges: dict[str, dict[str, Any]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, f"{self._engine}{request.path}", json=body) as answer,
        ):
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            pieces = []
            async for piece in answer.content.iter_any():
                pieces.append(piece)
                await response.write(piece)
            self.exchanges[_key(request.method, request.path, body)] = {
                "request": [request.method, request.path, body],
                "status": answer.status,
                "type": answer.content_type,
                "answer": b"".join(pieces).decode(),
            }
        return response

    def write(self, path: Path) -> None:
        """Keep what was seen beside what is in the file."""
        known = {_key(*exchange["request"]): exchange for exchange in read(path)}
        lines = [json.dumps(each, ensure_ascii=False) for each in {**known, **self.exchanges}.values()]
        path.write_text("\n".join(lines) + "\n")


class Replayer:
    """Answers what was recorded; what was not is the test's fault."""

    def __init__(self) -> None:
        self._exchanges = {_key(*exchange["request"]): exchange for exchange in read(RECORDED)}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        found = self._exchanges.get(_key(request.method, request.path, body))
        if found is None:
            return web.json_response({"error": {"message": f"not recorded: {json.dumps(body)[:2000]}"}}, status=500)
        return web.Response(status=found["status"], text=found["answer"], content_type=found["type"])


def read(path: Path) -> list[dict[str, Any]]:
    """The exchanges of a file, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.is_file() else []


@asynccontextmanager
async def serving(handler: Recorder | Replayer) -> AsyncIterator[str]:
    """The address of a proxy or an engine made of a recording."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", handler.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
