"""Exchanges with a real vLLM: kept as they pass, and an engine that answers as they say.

A line of the file is one exchange: method and path, the request's JSON, status, content type and the bytes of the answer as
text. Equal requests have one line; times and ids in the answers are the engine's own.
"""

import json
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.proxy import Exchange

RECORDED = Path(__file__).parent / "recorded.jsonl"


def _key(method: str, path: str, body: Any) -> str:
    return json.dumps([method, path, body], sort_keys=True)


class Recorder:
    """Keeps what an engine answers, where the client reads it to its end."""

    def __init__(self) -> None:
        self.exchanges: dict[str, dict[str, Any]] = {}

    def note(self, exchange: Exchange) -> None:
        """Keep one."""
        request, body = exchange.request, json.loads(exchange.body) if exchange.body else None
        if exchange.is_whole:
            self.exchanges[_key(request.method, request.path, body)] = {
                "request": [request.method, request.path, body],
                "status": exchange.status,
                "type": exchange.content_type,
                "answer": exchange.answer.decode(),
            }

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
