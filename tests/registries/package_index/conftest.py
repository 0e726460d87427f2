"""A package index on the loopback, with wheels made for the tests."""

import hashlib
import io
import re
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from serow.registries.package_index import sources
from serow.registries.package_index.pip_config import PipConfig
from serow.registries.package_index.sources import Source, Wheel
from serow.store.store import Store


def make_wheel(number: int, data: bytes) -> tuple[Wheel, bytes]:
    """A wheel that carries `data`, as its row of the table and its bytes."""
    package, file = f"part{number}", io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('nothing of a wheel is run')")
        archive.writestr(f"{package}/data.bin", data)
    body = file.getvalue()
    row = Wheel(
        project=f"model-part{number}",
        filename=f"{package}-1.0-py3-none-any.whl",
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        member=f"{package}/data.bin",
        member_size=len(data),
    )
    return row, body


@dataclass
class Index:
    """What the index serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    pages: dict[str, str] = field(default_factory=dict)  # project: HTML instead of its own page
    cuts: list[int] = field(default_factory=list)  # after how many bytes the next answers break off
    ignores_range: bool = False
    asked: list[str] = field(default_factory=list)  # "project", or "file from"
    url: str = ""

    async def page(self, request: web.Request) -> web.StreamResponse:
        """The page of a project."""
        project = request.match_info["project"]
        self.asked.append(project)
        name = f"{project.removeprefix('model-')}-1.0-py3-none-any.whl"
        if project not in self.pages and name not in self.files:
            raise web.HTTPNotFound
        html = self.pages.get(project, f'<a href="../../files/{name}#sha256=0">{name}</a>')
        return web.Response(text=html, content_type="text/html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """A wheel, or what follows the first bytes of it."""
        body = self.files[request.match_info["name"]]
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(found[1]) if found and not self.ignores_range else 0
        self.asked.append(f"{request.match_info['name']} {start}")
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        response.content_length = len(body) - start
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        await response.write(body[start:] if cut is None else body[start : start + cut])
        if cut is not None:
            assert request.transport is not None
            request.transport.close()
        return response


@pytest.fixture
def parts(zoo: Path) -> list[tuple[Wheel, bytes]]:
    """zoo-think.gguf in two wheels."""
    data = (zoo / "zoo-think.gguf").read_bytes()
    half = len(data) // 2
    return [make_wheel(1, data[:half]), make_wheel(2, data[half:])]


@pytest.fixture
def source(zoo: Path, parts: list[tuple[Wheel, bytes]], monkeypatch: pytest.MonkeyPatch) -> Source:
    """The one model of the table: `zoo:1m`, in two wheels."""
    data = (zoo / "zoo-think.gguf").read_bytes()
    row = Source("zoo:1m", len(data), hashlib.sha256(data).hexdigest(), tuple(wheel for wheel, _ in parts))
    monkeypatch.setattr(sources, "SOURCES", (row,))
    return row


@asynccontextmanager
async def serving(index: Index) -> AsyncIterator[None]:
    """Serve it at `index.url`."""
    app = web.Application()
    app.router.add_get("/simple/{project}/", index.page)
    app.router.add_get("/files/{name}", index.file)
    async with TestServer(app) as server:
        index.url = str(server.make_url("/simple"))
        yield


@pytest_asyncio.fixture
async def index(parts: list[tuple[Wheel, bytes]]) -> AsyncIterator[Index]:
    """An index that serves the parts."""
    made = Index({wheel.filename: body for wheel, body in parts})
    async with serving(made):
        yield made


@pytest.fixture
def config(index: Index) -> PipConfig:
    """pip's settings that name the index."""
    return PipConfig(indexes=(index.url,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "models")
