"""Serow as the tests of vLLM speak to it."""

import asyncio
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from tests.compat.vllm.replicas import MODEL
from tests.support.server import Running

DEADLINE = 300.0  # seconds; a CPU that others use takes its time
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Door:
    """A server with models at addresses."""

    def __init__(self, server: Running, tokenizer: Path) -> None:
        self.server = server
        self._tokenizer = tokenizer

    async def create(self, hosts: str, name: str = "m", **fields: Any) -> None:
        """Make a model at these addresses."""
        files = {}
        for data, file in ((path.read_bytes(), path.name) for path in map(self._tokenizer.joinpath, _FILES) if path.is_file()):
            files[file] = f"sha256:{hashlib.sha256(data).hexdigest()}"
            async with self.server.session.post(f"/api/blobs/{files[file]}", data=io.BytesIO(data)) as response:
                assert response.status in (200, 201)
        body = {"model": name, "files": files, "remote_host": f"vllm://{hosts}", "remote_model": MODEL, **fields}
        status, text = await self.text("/api/create", {**body, "stream": False})
        assert status == 200, text

    async def text(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Status and text of an answer."""
        async with asyncio.timeout(DEADLINE), self.server.session.post(path, json=body) as response:
            return response.status, await response.text()

    async def records(self, path: str, **fields: Any) -> list[dict[str, Any]]:
        """The records of an answer that must succeed."""
        options = {"temperature": 0, "num_predict": 12, **fields.pop("options", {})}
        status, text = await self.text(path, {"model": "m", "options": options, **fields})
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]
