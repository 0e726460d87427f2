"""What is asked of a server that is attacked, and whether it is unharmed afterwards."""

import asyncio
import hashlib
import io
from typing import Any

from tests.support.server import END_DEADLINE, Running


async def ask(server: Running, path: str, body: Any, method: str = "POST") -> tuple[int, str]:
    """Status and text of an answer, which has to come."""
    async with asyncio.timeout(END_DEADLINE), server.session.request(method, path, json=body) as response:
        return response.status, await response.text()


async def generate(server: Running, **body: Any) -> tuple[int, str]:
    wanted = {"model": "zoo-think", "prompt": "What is 3 + 4?", "stream": False, "think": False, **body}
    return await ask(server, "/api/generate", wanted)


async def is_unharmed(server: Running) -> bool:
    """Whether a good request still gets its answer."""
    status, text = await generate(server, options={"temperature": 0})
    return status == 200 and "3 + 4 = 7." in text


async def upload(server: Running, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with server.session.post(f"/api/blobs/{digest}", data=io.BytesIO(data)) as response:
        assert response.status in (200, 201)
    return digest
