"""How smoothly the page shows an answer that grows at the end of a long conversation, by Chromium's own trace.

    python -m bench.page            # 100 tokens a second into a conversation of 200 messages, for ten seconds

The engine says what is written here; the browser is Debian's Chromium without a window. A task of the page's main thread above
50 ms is a long one, by the CPU time that it took, so that a busy machine does not count; frames are those that the page drew.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from serow.engines.base import Chunk, CompletionRequest
from serow.settings import Settings
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store
from tests.page.conftest import FLAGS
from tests.support.engine import FakeEngine
from tests.support.server import running

MODEL = Path(__file__).parents[1] / "tests" / "models" / "zoo" / "lm" / "zoo-think.gguf"
MESSAGES = 200
DEADLINE = 120_000.0  # ms
LONG = 50.0  # ms of one task
CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel", "blink.user_timing"]
TASKS = ("RunTask", "ThreadControllerImpl::RunTask")
ANSWER = "Here is **a piece** of an answer with `code` in it, and some more words.\n\n"
CODE = "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```\n\n"
FRAMES = """() => {
  window.frames_ = [];
  const look = (now) => (window.frames_.push(now), requestAnimationFrame(look));
  requestAnimationFrame(look);
}"""


class Talker(FakeEngine):
    """Says so many tokens a second."""

    def __init__(self, rate: float, seconds: float) -> None:
        words = ((ANSWER * 4 + CODE) * 1000).split(" ")
        super().__init__([f"{word} " for word in words[: int(rate * seconds)]])
        self._pause = 1 / rate

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        due = asyncio.get_running_loop().time()
        async for chunk in super().complete(request):
            yield chunk
            due += self._pause
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


@dataclass(frozen=True)
class Found:
    """What the trace says. Times in ms."""

    longest: float  # CPU time of the longest task of the main thread
    num_long: int
    busy: float  # share of the time in which the main thread worked
    frames: float  # a second
    tokens: float  # a second


def conversation() -> str:
    """An exported conversation of many messages."""
    texts = ("What is next?", ANSWER * 3 + CODE)
    nodes = [
        {"parent": number - 1, "role": ("user", "assistant")[number % 2], "content": texts[number % 2], "model": "bench:latest"}
        for number in range(MESSAGES)
    ]
    return json.dumps({"title": "long", "model": "bench:latest", "nodes": nodes, "leaf": MESSAGES - 1})


async def look(page: Page, url: str, folder: Path, num_tokens: int) -> Found:
    """Open the conversation, ask, and watch the answer grow."""
    await page.goto(url)
    await page.get_by_label("Model", exact=True).select_option("bench:latest")
    path = folder / "long.json"
    await asyncio.to_thread(path.write_text, conversation())
    await page.locator("input[type=file][accept='.json']").set_input_files(path)
    await page.locator("article").nth(MESSAGES - 1).wait_for()
    browser = page.context.browser
    assert browser is not None
    await page.get_by_label("Message").fill("Go on")
    await browser.start_tracing(page=page, categories=CATEGORIES)
    await page.evaluate(FRAMES)
    await page.keyboard.press("Enter")
    await page.locator("article.assistant footer .quiet").last.wait_for(timeout=DEADLINE)
    times: list[float] = await page.evaluate("frames_")
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    return judged(events, times, num_tokens)


def judged(events: list[dict[str, Any]], times: list[float], num_tokens: int) -> Found:
    """The figures of a trace: tasks of the thread on which the page's frames were asked for."""
    main = next((each["pid"], each["tid"]) for each in events if each["name"] == "FireAnimationFrame")
    own = [each for each in events if each["name"] in TASKS and (each["pid"], each["tid"]) == main and "tdur" in each]
    tasks = [each["tdur"] / 1000 for each in own]
    duration = times[-1] - times[0]
    rates = len(times) / duration * 1000, num_tokens / duration * 1000
    return Found(max(tasks), sum(each > LONG for each in tasks), sum(tasks) / duration, *rates)


async def measure(rate: float, seconds: float) -> Found:
    """One answer, in a browser and a server of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "models")
        digest, _ = store.blobs.put(await asyncio.to_thread(MODEL.read_bytes))
        for _ in store.create(Name.parse("bench"), Recipe(files={"model.gguf": digest})):
            pass
        engine = Talker(rate, seconds)
        async with running(Settings(models=store.root), lambda _: engine) as server, async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
            found = await look(await browser.new_page(), server.url, folder, int(rate * seconds))
            await browser.close()
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100, help="tokens a second (default: 100)")
    parser.add_argument("--seconds", type=float, default=10, help="how long it talks (default: 10)")
    args = parser.parse_args()
    found = asyncio.run(measure(args.rate, args.seconds))
    print("| tokens/s | frames/s | main thread busy | longest task | tasks above 50 ms |\n|---|---|---|---|---|")
    print(f"| {found.tokens:.0f} | {found.frames:.0f} | {found.busy:.0%} | {found.longest:.1f} ms | {found.num_long} |")


if __name__ == "__main__":
    main()
