"""What the page does when something breaks: the network, the server, the disk, the browser's storage, another tab."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serow.engines.base import ImageChunk, ImageRequest
from serow.library import parts
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.library.conftest import Registry
from tests.page.test_ask import ANSWER, asked, finished, opened, serving
from tests.page.test_models_view import png
from tests.pictures import SHAPES, create_pipeline
from tests.support.engine import FakeEngine, FakePainter, starting
from tests.support.registry import free_port
from tests.support.server import running

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

PARTS = 3  # of the upload's 8 MiB


@pytest.fixture
def root(tmp_path: Path, zoo: Path) -> Path:
    """A store of its own with one small model."""
    create(Store(tmp_path), "tiny", zoo / "zoo-think.gguf")
    return tmp_path


async def test_a_server_that_starts_anew_under_the_page_is_spoken_to_again(page: "Page", models: Path) -> None:
    port = free_port()
    start = starting(zoo_think=FakeEngine(["before"], ["cut ", asyncio.Event()], ["after"]))
    async with running(Settings(models=models), start, port) as server:
        await opened(page, server)
        await asked(page, "One")
        assert await finished(page) == "before"
        await asked(page, "Two")
        await page.get_by_text("cut").wait_for()
    words = await page.locator(f"{ANSWER} .error").last.inner_text()
    assert "shutting down" in words or "cut" in words
    await asked(page, "Is anybody there?")
    await page.get_by_text("the server does not answer").first.wait_for()
    async with running(Settings(models=models), start, port):
        await page.get_by_role("button", name="Ask again").last.click()
        assert await finished(page) == "after"
        await page.goto(f"{page.url.partition('#')[0]}#now")
        await page.get_by_text("requests wait").wait_for()


async def test_a_stream_that_the_network_cuts_keeps_what_came(page: "Page", models: Path) -> None:
    record = {"model": "m", "created_at": "", "message": {"role": "assistant", "content": "half an answer"}, "done": False}
    async with serving(models, ["whole"]) as server:
        await opened(page, server)
        await page.route("**/api/chat", lambda route: route.fulfill(body=json.dumps(record) + "\n"))
        await asked(page, "Hi")
        assert await finished(page) == "half an answer"
        assert "the connection was cut" in await page.locator(f"{ANSWER} .error").inner_text()


async def test_what_does_not_fit_into_the_storage_is_told_and_stays_in_sight(page: "Page", models: Path) -> None:
    async with serving(models, ["still here"], ["and this"]) as server:
        await opened(page, server)
        session = await page.context.new_cdp_session(page)
        await session.send("Storage.overrideQuotaForOrigin", {"origin": server.url, "quotaSize": 1})
        await asked(page, "Hi")
        assert await finished(page) == "still here"
        await page.get_by_text("this browser's storage is full").wait_for()
        await session.send("Storage.overrideQuotaForOrigin", {"origin": server.url})
        await asked(page, "Again")
        await finished(page)
        await page.get_by_role("button", name="Hi", exact=True).wait_for()


async def test_two_tabs_that_go_on_with_one_conversation_lose_nothing(page: "Page", models: Path) -> None:
    gate = asyncio.Event()
    async with serving(models, ["first"], ["slow ", gate, "answer"], ["quick"]) as server:
        await opened(page, server)
        await asked(page, "Begin")
        await finished(page)
        other = await page.context.new_page()
        await opened(other, server)
        await other.get_by_role("button", name="Begin", exact=True).click()
        await asked(page, "From the first tab")
        await page.get_by_text("slow").wait_for()
        await asked(other, "From the second tab")
        await other.get_by_text("quick", exact=True).wait_for()
        assert await finished(other) == "quick"
        gate.set()
        await page.bring_to_front()
        assert await finished(page) == "slow answer"
        for tab in (other, page):
            await tab.bring_to_front()
            await tab.reload()
            await tab.get_by_role("button", name="Begin", exact=True).click()
            await tab.get_by_role("button", name="Earlier branch").first.wait_for()
        assert await finished(page) == "slow answer"
        await page.get_by_role("button", name="Earlier branch").first.click()
        assert await finished(page) == "quick"


async def test_a_tab_hears_what_another_one_keeps_and_deletes(page: "Page", models: Path) -> None:
    async with serving(models, ["first"], ["second"]) as server:
        await opened(page, server)
        other = await page.context.new_page()
        await opened(other, server)
        await asked(other, "Shared")
        await finished(other)
        await page.get_by_role("button", name="Shared", exact=True).click()
        await asked(other, "And more")
        await finished(other)
        await page.get_by_text("second").wait_for()
        await other.get_by_role("button", name="Delete Shared").click()
        await other.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Shared", exact=True).wait_for(state="detached")


async def test_an_upload_that_broke_off_goes_on_in_its_middle_after_a_reload(
    page: "Page", root: Path, zoo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.gguf"
    whole = (zoo / "zoo-vision.gguf").read_bytes()
    path.write_bytes(whole + bytes(PARTS * (8 << 20) - len(whole)))
    begun: list[str] = []

    async def through(route: "Route") -> None:
        if route.request.method == "HEAD":
            return await route.continue_()
        begun.append(route.request.headers["content-range"])
        return await (route.abort() if len(begun) == 2 else route.continue_())

    async with running(Settings(models=root), lambda _: FakeEngine()) as server:
        await page.route("**/api/blobs/**", through)
        await page.goto(f"{server.url}/#models")
        for number in range(2):
            await page.get_by_label("GGUF file").set_input_files(path)
            await page.get_by_role("button", name="Create").click()
            if number:
                break
            await page.get_by_role("button", name="Go on").wait_for()
            await page.reload()
        await page.get_by_role("row", name="mine:latest").wait_for()
    starts = [int(each.removeprefix("bytes ").partition("-")[0]) >> 20 for each in begun]
    assert starts == [0, 8, 8, 16]


class Painter(FakePainter):
    """Shows how far it is, and waits."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.gate = gate

    async def draw(self, request: ImageRequest) -> AsyncIterator[ImageChunk]:  # type: ignore[override]
        self.requests.append(request)
        yield ImageChunk(1, 2, preview=png("blue"))
        await self.gate.wait()
        yield ImageChunk(2, 2)
        yield ImageChunk(2, 2, (png("red"),), duration=1)


async def test_a_picture_is_seen_while_it_is_drawn(page: "Page", tmp_path: Path) -> None:
    painter = Painter(asyncio.Event())
    create_pipeline(Store(tmp_path), "shapes", SHAPES, width=64, height=64, steps=2)
    async with running(Settings(models=tmp_path), lambda _: painter) as server:
        await page.goto(f"{server.url}/#draw")
        await page.get_by_label("Model", exact=True).select_option("shapes:latest")
        await page.get_by_label("Prompt", exact=True).fill("a red circle")
        await page.get_by_role("button", name="Draw", exact=True).click()
        await page.locator(".canvas img").wait_for()
        assert await page.locator("progress").get_attribute("value") == "1"
        preview = await page.locator(".canvas img").get_attribute("src")
        painter.gate.set()
        await page.locator(".gallery li").wait_for()
        assert await page.locator(".canvas img").get_attribute("src") != preview
        assert "preview" not in await page.locator(".gallery li").inner_text()
    assert painter.requests[0].preview == 1


async def test_a_pull_that_was_stopped_goes_on_where_it_was(
    page: "Page", root: Path, zoo: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SMALL_PART", 1 << 20)
    weights = (zoo / "zoo-vision.gguf").read_bytes()
    registry.model("zoo/tiny", weights)
    registry.cut = 400_000

    async def insecure(route: "Route") -> None:
        await route.continue_(post_data=json.dumps({**(route.request.post_data_json or {}), "insecure": True}))

    async with running(Settings(models=root), lambda _: FakeEngine()) as server:
        await page.route("**/api/pull", insecure)
        await page.goto(f"{server.url}/#models")
        await page.get_by_label("Model to fetch").fill(f"{registry.host}/zoo/tiny")
        await page.get_by_role("button", name="Pull").click()
        await page.locator(".job progress[value]:not([value='0'])").wait_for()
        await page.get_by_role("button", name="Stop").click()
        await page.get_by_role("button", name="Go on").wait_for()
        registry.cut, registry.sent = 0, 0
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_role("row", name="zoo/tiny").wait_for()
    assert registry.sent < len(weights)
