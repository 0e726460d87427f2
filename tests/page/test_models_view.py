"""The views "Models", "Draw" and "Now" in a browser, against engines that compute nothing."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from serow.engines.base import ImageChunk, ImageRequest
from serow.errors import EngineDied
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.pictures import SHAPES, create_pipeline
from tests.support.engine import FakeEngine, FakePainter
from tests.support.server import Running, running

if TYPE_CHECKING:
    from playwright.async_api import Page


def png(color: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(out, "PNG")
    return out.getvalue()


class Painter(FakePainter):
    """Draws one colour."""

    async def draw(self, request: ImageRequest) -> AsyncIterator[ImageChunk]:  # type: ignore[override]
        self.requests.append(request)
        for completed in (1, 2):
            yield ImageChunk(completed, 2)
        yield ImageChunk(2, 2, (png("red"),), duration=1)


@asynccontextmanager
async def serving(root: Path, engine: FakeEngine | FakePainter) -> AsyncIterator[Running]:
    async with running(Settings(models=root), lambda _: engine) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path, zoo: Path) -> Path:
    """A store of its own with one small model."""
    create(Store(tmp_path), "tiny", zoo / "zoo-think.gguf")
    return tmp_path


async def test_a_model_is_made_of_an_uploaded_file_loaded_copied_and_deleted(page: "Page", root: Path, zoo: Path) -> None:
    async with serving(root, FakeEngine()) as server:
        await page.goto(f"{server.url}/#models")
        await page.get_by_label("GGUF file").set_input_files(zoo / "zoo-vision.gguf")
        await page.get_by_label("Name of the new model").fill("mine")
        await page.get_by_role("button", name="Create").click()
        row = page.get_by_role("row", name="mine:latest")
        await row.get_by_role("button", name="Load", exact=False).first.click()
        await row.get_by_text("in memory").wait_for()
        await row.get_by_role("button", name="Copy").click()
        await page.get_by_label("Name of the copy").fill("yours")
        await page.get_by_role("dialog").get_by_role("button", name="Copy").click()
        await page.get_by_role("row", name="yours:latest").get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Delete it").click()
        await page.get_by_role("row", name="yours:latest").wait_for(state="detached")
    names = [model.name.model for model in Store(root).list()]
    assert sorted(names) == ["mine", "tiny"]


async def test_a_model_that_is_not_to_be_had_says_so_and_may_be_tried_again(page: "Page", root: Path) -> None:
    async with running(Settings(models=root, offline=True), lambda _: FakeEngine()) as server:
        await page.goto(f"{server.url}/#models")
        await page.get_by_label("Model to fetch").fill("no-such-model")
        await page.get_by_role("button", name="Pull").click()
        await page.get_by_role("button", name="Go on").wait_for()


async def test_a_picture_is_drawn_kept_with_its_parameters_and_drawn_again_from(page: "Page", tmp_path: Path) -> None:
    painter = Painter()
    async with serving(_with_image_model(tmp_path), painter) as server:
        await page.goto(f"{server.url}/#draw")
        await page.get_by_label("Model", exact=True).select_option("shapes:latest")
        await page.get_by_label("Prompt", exact=True).fill("a red circle")
        await page.get_by_label("seed").fill("7")
        await page.get_by_role("button", name="Draw", exact=True).click()
        await page.locator(".gallery li").wait_for()
        assert "seed 7" in await page.locator(".gallery li").inner_text()
        await page.get_by_role("button", name="Start from it").click()
        await page.get_by_role("button", name="Draw", exact=True).click()
        await page.locator(".gallery li").nth(1).wait_for()
    assert [request.seeds for request in painter.requests] == [(7,), (7,)]
    assert not painter.requests[0].images and painter.requests[1].images


async def test_now_shows_what_is_loaded_and_what_went_wrong(page: "Page", root: Path) -> None:
    async with serving(root, FakeEngine([EngineDied("the engine ended with signal 9")])) as server:
        async with server.session.post("/api/generate", json={"model": "tiny", "prompt": "x", "stream": False}) as answer:
            request_id = answer.headers["x-request-id"]
        await server.load("tiny")
        await page.goto(f"{server.url}/#now")
        await page.get_by_role("row", name="tiny:latest").wait_for()
        await page.get_by_text(request_id).wait_for()
        assert "the engine ended with signal 9" in await page.locator(".errors").inner_text()


def _with_image_model(root: Path) -> Path:
    create_pipeline(Store(root), "shapes", SHAPES, width=64, height=64, steps=2)
    return root
