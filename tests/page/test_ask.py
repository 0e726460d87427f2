"""The view "Ask" in a browser, against an engine that says what a test has written for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serow.errors import EngineDied
from serow.settings import Settings
from tests.support.engine import FakeEngine, Piece, starting
from tests.support.server import Running, running

if TYPE_CHECKING:
    from playwright.async_api import Page

ANSWER = "article.assistant"
HOSTILE = (
    '<img src=x onerror="window.hit = 1"> <script>window.hit = 1</script> [x](javascript:window.hit=1) '
    "[y](data:text/html,<script>window.hit=1</script>)\n\n```html\n<script>window.hit = 1</script>\n```\n"
)


@asynccontextmanager
async def serving(models: Path, *scripts: Sequence[Piece], **settings: object) -> AsyncIterator[Running]:
    """A server whose zoo-think says these scripts, one an answer."""
    engine = FakeEngine(*scripts)
    start = starting(zoo_think=engine, zoo_vision=engine, smollm2=engine)
    async with running(Settings(models=models, **settings), start) as server:  # type: ignore[arg-type]
        yield server


async def opened(page: "Page", server: Running, model: str = "zoo-think:latest") -> None:
    await page.goto(server.url)
    await page.get_by_label("Model", exact=True).select_option(model)


async def asked(page: "Page", text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.keyboard.press("Enter")


async def finished(page: "Page", nth: int = -1) -> str:
    """The text of an answer once its numbers are there."""
    answer = page.locator(ANSWER).nth(nth)
    await answer.locator("footer .quiet, footer .error").first.wait_for()
    return (await answer.locator(".content").text_content() or "").strip()  # inner_text is empty while it is out of sight


async def test_an_answer_grows_and_its_markdown_is_rendered(page: "Page", models: Path) -> None:
    gate = asyncio.Event()
    async with serving(models, ["**bo", "ld** ", gate, "and\n\n| a |\n|---|\n| 1 |\n"]) as server:
        await opened(page, server)
        await asked(page, "Hi")
        await page.get_by_text("**bold**").wait_for()
        gate.set()
        await finished(page)
        assert await page.locator(f"{ANSWER} strong").inner_text() == "bold"
        assert await page.locator(f"{ANSWER} td").inner_text() == "1"


async def test_a_stopped_answer_stays_and_the_next_one_comes(page: "Page", models: Path) -> None:
    async with serving(models, ["begun ", asyncio.Event(), "never"], ["again"]) as server:
        await opened(page, server)
        await asked(page, "Hi")
        await page.get_by_text("begun").wait_for()
        await page.get_by_role("button", name="Stop").click()
        await page.get_by_role("button", name="Send").wait_for()
        await asked(page, "And now?")
        assert await finished(page) == "again"
        assert "begun" in await page.locator(ANSWER).first.inner_text()


async def test_thinking_is_folded_and_can_be_read(page: "Page", models: Path) -> None:
    async with serving(models, ["<think>", "a secret", "</think>", "the answer"]) as server:
        await opened(page, server)
        await asked(page, "Hi")
        assert await finished(page) == "the answer"
        assert not await page.get_by_text("a secret").is_visible()
        await page.locator(f"{ANSWER} summary").click()
        assert await page.get_by_text("a secret").is_visible()


async def test_what_a_model_writes_runs_nothing(page: "Page", models: Path) -> None:
    async with serving(models, [HOSTILE]) as server:
        await opened(page, server)
        await asked(page, HOSTILE)
        await finished(page)
        assert await page.evaluate("window.hit") is None
        assert await page.locator(f"{ANSWER} img, {ANSWER} script").count() == 0
        assert await page.locator(f"{ANSWER} a").count() == 0


async def test_asking_again_makes_a_branch_and_keeps_the_other(page: "Page", models: Path) -> None:
    async with serving(models, ["first"], ["second"]) as server:
        await opened(page, server)
        await asked(page, "Hi")
        assert await finished(page) == "first"
        await page.get_by_role("button", name="Ask again").click()
        await page.get_by_text("2/2").wait_for()
        assert await finished(page) == "second"
        await page.get_by_role("button", name="Earlier branch").click()
        assert await finished(page) == "first"


async def test_an_engine_that_dies_is_told_with_the_request_s_id(page: "Page", models: Path) -> None:
    async with serving(models, ["half ", EngineDied("the engine ended with signal 9")]) as server:
        await opened(page, server)
        await asked(page, "Hi")
        assert "half" in await finished(page)
        words = await page.locator(f"{ANSWER} .error").inner_text()
        assert "the engine ended with signal 9" in words and "request" in words


async def test_a_conversation_outlives_the_page_and_the_server(page: "Page", models: Path) -> None:
    async with serving(models, ["kept"]) as server:
        await opened(page, server)
        await asked(page, "Remember this")
        await finished(page)
        await page.reload()
        await page.get_by_role("button", name="Remember this", exact=True).click()
        assert await finished(page) == "kept"
    await asked(page, "Is anybody there?")
    await page.get_by_text("the server does not answer").first.wait_for()
    assert "kept" in await page.locator(ANSWER).first.inner_text()


async def test_an_exported_conversation_can_be_imported(page: "Page", models: Path, tmp_path: Path) -> None:
    async with serving(models, ["kept"]) as server:
        await opened(page, server)
        await asked(page, "Export me")
        await finished(page)
        await page.get_by_role("button", name="Export Export me").click()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="JSON").click()
        path = tmp_path / "conversation.json"
        await (await download.value).save_as(path)
        assert [node["content"] for node in json.loads(path.read_text())["nodes"]] == ["Export me", "kept"]
        await page.locator("input[type=file][accept='.json']").set_input_files(path)
        await page.get_by_role("button", name="Export me", exact=True).nth(1).wait_for()
        path.write_text('{"nodes": [{"role": 1}]}')
        await page.locator("input[type=file][accept='.json']").set_input_files(path)
        await page.get_by_text("this file is no exported conversation").wait_for()


async def test_a_key_is_asked_for_and_kept_for_the_tab(page: "Page", models: Path) -> None:
    async with serving(models, ["welcome"], api_keys=("secret-key",)) as server:
        await page.goto(server.url)
        await page.get_by_role("heading", name="This server asks for a key").wait_for()
        await page.get_by_label("API key").fill("secret-key")
        await page.get_by_role("button", name="Use it").click()
        await page.get_by_label("Model", exact=True).select_option("zoo-think:latest")
        await asked(page, "Hi")
        assert await finished(page) == "welcome"
        assert await page.evaluate("Object.values(localStorage).includes('secret-key')") is False


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1024, "light"), (1920, "dark"), (320, "light")])
@pytest.mark.parametrize("view", ["ask", "draw", "models", "now"])
async def test_a_view_has_no_fault_for_people_who_listen_or_magnify(
    page: "Page", models: Path, view: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed: scripts/browser")
    async with serving(models, ["**Hi**\n\n```python\nx = 1  # one\n```\n"]) as server:
        await page.set_viewport_size({"width": width, "height": 800})
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await opened(page, server)
        await asked(page, "Hi")
        await finished(page)
        await page.goto(f"{server.url}/#{view}")
        await page.locator(f"{view}-view").wait_for()
        await page.wait_for_load_state("networkidle")
        found = await axe.Axe().run(page)
        assert found.response["violations"] == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
