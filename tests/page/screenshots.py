"""Pictures of every view, narrow, usual and wide, in light and dark: `python -m tests.page.screenshots FOLDER`.

The engines are those of tests and say what is written here; what is seen is the page as it is.
"""

import argparse
import asyncio
import io
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
from PIL import Image, ImageDraw, ImageFilter
from playwright.async_api import Page, async_playwright

from serow.engines.base import Chunk, CompletionRequest, ImageChunk, ImageRequest, LoadRequest
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.page.conftest import FLAGS
from tests.page.test_ask import asked, finished
from tests.pictures import SHAPES, create_pipeline
from tests.support.engine import Fake, FakeEngine, FakePainter
from tests.support.server import Running, running

ZOO = Path(__file__).parents[1] / "models" / "zoo" / "lm"
SIZES = {"narrow": (360, 740), "usual": (1024, 768), "wide": (1920, 1080)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEWS = ("ask", "draw", "models", "now")
WORDS = re.compile(r"\S+\s*")
THOUGHT = ["<think>", "The question is about status codes. ", "A table helps.", "</think>"]
ANSWER = """Both say that the address leads **elsewhere**:

| status | name | is it for ever? |
|---|---|---|
| 301 | Moved Permanently | yes |
| 302 | Found | no |

```python
def is_permanent(status: int) -> bool:
    return status in (301, 308)  # a browser remembers these
```
"""
QUESTIONS = ("What is the difference between 301 and 302?", "And which one do search engines follow?")
SECOND = "They follow **both**; of a 301 they keep the new address, of a 302 the old one."


def picture(seed: int, size: int = 256) -> Image.Image:
    """A sun above hills."""
    image = Image.new("RGB", (size, size), ("#f6d9a8", "#a9c8d8")[seed % 2])
    draw = ImageDraw.Draw(image)
    draw.ellipse((size * 0.55, size * 0.15, size * 0.8, size * 0.4), fill=("#d9622b", "#fbf3d0")[seed % 2])
    for number, colour in enumerate(("#8fae8b", "#5f8a6a", "#2f5f47")):
        top = size * (0.5 + 0.14 * number)
        hills = ((0, size), (0, top + 30), (size * 0.3, top), (size * 0.7, top + 40), (size, top), (size, size))
        draw.polygon(hills, fill=colour)
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


class Talker(FakeEngine):
    """Took as long as a model on a small machine."""

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().complete(request):
            if chunk.usage is not None:
                duration = 21_000_000 * chunk.usage.eval_count
                chunk = msgspec.structs.replace(chunk, usage=replace(chunk.usage, eval_duration=duration))
            yield chunk


class Painter(FakePainter):
    """Draws landscapes, the second one for ever."""

    def __init__(self) -> None:
        super().__init__(steps=8)
        self.gate = asyncio.Event()

    async def draw(self, request: ImageRequest) -> AsyncIterator[ImageChunk]:  # type: ignore[override]
        self.requests.append(request)
        whole = picture(request.seeds[0])
        for step in range(1, 9):
            blurred = whole.filter(ImageFilter.GaussianBlur(18 - 2 * step)).resize((96, 96))
            yield ImageChunk(step, 8, preview=encoded(blurred, "JPEG"))
            if step == 5 and len(self.requests) > 2:
                await self.gate.wait()
        yield ImageChunk(8, 8, tuple(encoded(picture(seed)) for seed in request.seeds), duration=1)


@asynccontextmanager
async def served(root: Path) -> AsyncIterator[Running]:
    """A server with a few models whose engines say what is written here."""
    store = Store(root)
    for name in ("qwen3:0.6b", "smollm2:135m"):
        create(store, name, ZOO / "zoo-think.gguf")
    create(store, "gemma3:4b", ZOO / "zoo-vision.gguf", ZOO / "zoo-vision-mmproj.gguf")
    create_pipeline(store, "landscapes", SHAPES, width=256, height=256, steps=8)
    answers = [[*THOUGHT, *WORDS.findall(ANSWER)], WORDS.findall(SECOND)]
    painter = Painter()

    def start(request: LoadRequest) -> Fake:
        return painter if request.model.is_image else Talker(*answers)

    async with running(Settings(models=root), start) as server:
        yield server
        painter.gate.set()


async def fill(page: Page, server: Running) -> None:
    """A conversation, two pictures and one that is being drawn, an error."""
    await page.goto(server.url)
    await page.get_by_label("Model", exact=True).select_option("qwen3:0.6b")
    for question in QUESTIONS:
        await asked(page, question)
        await finished(page)
    await page.goto(f"{server.url}/#draw")
    for number, prompt in enumerate(("a sun above hills, morning", "the same hills under the moon")):
        await draw(page, prompt, 2 + number)
        await page.locator(".gallery li").nth(number).wait_for()
    async with server.session.post("/api/chat", json={"model": "qwen3:8b", "messages": []}) as answer:
        await answer.read()
    async with server.session.post("/api/generate", json={"model": "gemma3:4b", "keep_alive": "20m"}) as answer:
        await answer.read()


async def draw(page: Page, prompt: str, seed: int) -> None:
    await page.get_by_label("Model", exact=True).select_option("landscapes:latest")
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_label("seed").fill(str(seed))
    await page.get_by_role("button", name="Draw", exact=True).click()


async def show(page: Page, server: Running, view: str) -> None:
    """Bring a view to the state in which it is looked at."""
    await page.goto(f"{server.url}/#{view}")
    await page.reload()
    await page.locator(f"{view}-view").wait_for()
    if view == "ask":
        await page.get_by_text("Conversations", exact=True).wait_for()
        button = page.get_by_role("button", name=QUESTIONS[0], exact=True)
        is_folded = not await button.is_visible()
        if is_folded:
            await page.get_by_text("Conversations", exact=True).click()
        await button.click()
        if is_folded:
            await page.get_by_text("Conversations", exact=True).click()
        await page.locator("article pre code span").first.wait_for()
    if view == "draw":
        await draw(page, "a lake between the hills", 4)
        await page.locator(".canvas img").wait_for()
        await page.get_by_text("step 5 of 8").wait_for()
    else:
        await page.wait_for_load_state("networkidle")


async def take(folder: Path, only: str) -> None:
    """All of them, as PNG files."""
    with tempfile.TemporaryDirectory() as root:
        async with served(Path(root)) as server, async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
            context = await browser.new_context()
            page = await context.new_page()
            await fill(page, server)
            for view in VIEWS:
                for size, (width, height) in SIZES.items():
                    for scheme in SCHEMES:
                        name = f"{view}-{size}-{scheme}"
                        if only not in name:
                            continue
                        await page.set_viewport_size({"width": width, "height": height})
                        await page.emulate_media(color_scheme=scheme)
                        await show(page, server, view)
                        await page.screenshot(path=folder / f"{name}.png")
            await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="those whose name has this in it")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(args.folder, args.only))


if __name__ == "__main__":
    main()
