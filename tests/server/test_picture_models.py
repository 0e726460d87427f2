"""An image model that the installed packages can't load: refused when it is made, told by show, refused before it is loaded."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serow.server.app import create_app
from serow.settings import Settings
from serow.store.pipeline import files_of
from serow.store.store import Store
from tests.pictures import SHAPES, create_pipeline, needs_packages

pytestmark = needs_packages
TOLD = "the part unet is a UNet9DModel, which diffusers"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose UNet is of a class that nobody has."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in SHAPES.iterdir():
        (folder / path.name).symlink_to(path)
    index = json.loads((SHAPES / "model_index.json").read_text())
    (folder / "model_index.json").unlink()
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["diffusers", "UNet9DModel"]}))
    return folder


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(models=tmp_path / "store"))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.mark.req("PIC-01")
async def test_a_class_that_is_not_installed_is_told_when_the_model_is_made(
    client: httpx.AsyncClient, odd: Path, tmp_path: Path
) -> None:
    blobs = Store(tmp_path / "store").blobs
    files = {path: blobs.add(file) for path, file in files_of(odd)[0].items()}
    answer = await client.post("/api/create", json={"model": "odd", "files": files, "stream": False})
    assert answer.status_code == 400 and answer.json()["error"].startswith(TOLD)
    assert (await client.post("/api/show", json={"model": "odd"})).status_code == 404


async def test_a_model_that_came_another_way_is_told_by_show_and_refused_before_it_is_loaded(
    client: httpx.AsyncClient, odd: Path, tmp_path: Path
) -> None:
    create_pipeline(Store(tmp_path / "store"), "odd", odd)
    shown = (await client.post("/api/show", json={"model": "odd"})).json()
    assert shown["warnings"][0].startswith(TOLD) and "pip install --upgrade diffusers" in shown["warnings"][0]
    for body in ({"prompt": "a red circle"}, {}):
        answer = await client.post("/api/generate", json={"model": "odd", "stream": False, **body})
        assert answer.status_code == 400 and answer.json()["error"].startswith(TOLD)
    assert (await client.get("/api/ps")).json() == {"models": []}
