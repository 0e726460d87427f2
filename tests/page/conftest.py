"""A browser, where there is one: Debian's Chromium, driven by playwright."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.library.conftest import registry as registry

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

HINT = "scripts/browser installs what the page's tests need"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
DEADLINE = 20_000  # ms, on every wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests are one group: a browser is slow to start beside another."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """One browser for all tests; skips, with what to install, where it is missing."""
    playwright = pytest.importorskip("playwright.async_api", reason=f"playwright is not installed: {HINT}")
    executable = os.environ.get("SEROW_TEST_CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.skip(f"Chromium is not installed: {HINT}")
    started = await playwright.async_playwright().start()
    found = await started.chromium.launch(executable_path=executable, args=list(FLAGS))
    yield found
    with suppress(TimeoutError):  # one that hangs ends with the process of the tests
        async with asyncio.timeout(DEADLINE / 1000):
            await found.close()
            await started.stop()


@pytest_asyncio.fixture
async def page(browser: "Browser") -> AsyncIterator["Page"]:
    """A page without a past; an error of its scripts fails the test."""
    context = await browser.new_context(viewport={"width": 1024, "height": 768})
    context.set_default_timeout(DEADLINE)
    faults: list[str] = []
    opened = await context.new_page()
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    await context.close()
    assert faults == []
