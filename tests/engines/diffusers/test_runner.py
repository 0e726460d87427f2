"""The ImageRunner against real pipelines: one that draws well, four that only have the shape of the large ones."""

import asyncio
import io
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from PIL import Image

from serow.engines.base import ImageChunk, ImageRequest, LoadRequest
from serow.engines.diffusers.runner import ImageRunner, require_packages
from serow.errors import EngineDied, EngineError, LoadError, NotEnoughMemory, RequestError
from serow.options import LoadOptions
from serow.settings import Settings
from serow.store.model import Model
from serow.store.name import Name
from tests.pictures import SHAPES, needs_packages

pytestmark = needs_packages

RED = ImageRequest(prompt="a red circle", width=64, height=64, steps=4, seeds=(12,), guidance=4.0)


def runner_of(folder: Path) -> ImageRunner:
    model = Model(
        name=Name.parse("shapes"), digest="", size=0, modified_at=datetime.now(UTC), weights=folder, capabilities=("image",)
    )
    return ImageRunner(LoadRequest(model, LoadOptions(num_thread=1), 1), Settings())


async def chunks_of(runner: ImageRunner, request: ImageRequest) -> list[ImageChunk]:
    return [chunk async for chunk in runner.draw(request)]


async def drawn(runner: ImageRunner, request: ImageRequest) -> ImageChunk:
    return (await chunks_of(runner, request))[-1]


@pytest_asyncio.fixture(scope="session")
async def shapes() -> AsyncIterator[ImageRunner]:
    """zoo-shapes, loaded once."""
    runner = runner_of(SHAPES)
    await runner.load()
    yield runner
    await runner.close()


@pytest_asyncio.fixture
async def fresh() -> AsyncIterator[ImageRunner]:
    """zoo-shapes in a process that the test may harm."""
    runner = runner_of(SHAPES)
    await runner.load()
    yield runner
    await runner.close()


@pytest.mark.req("GEN-18")
async def test_every_step_is_told_and_the_last_chunk_is_a_png(shapes: ImageRunner) -> None:
    *steps, last = await chunks_of(shapes, RED)
    assert [(chunk.completed, chunk.total, chunk.images) for chunk in steps] == [(n, 4, ()) for n in range(5)]
    assert last.images and last.duration > 0 and last.warnings == ()
    with Image.open(io.BytesIO(last.images[0]), formats=["PNG"]) as picture:
        assert picture.size == (64, 64)


@pytest.mark.req("GEN-18")
async def test_the_same_seed_gives_the_same_picture(shapes: ImageRunner) -> None:
    first, again, other = [(await drawn(shapes, replace(RED, seeds=(seed,)))).images for seed in (12, 12, 13)]
    assert first == again != other


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"width": 70}, "width 70 was rounded to 72: the model draws in multiples of 8"),
        ({"height": 1}, "height 1 was rounded to 8: the model draws in multiples of 8"),
        (
            {"negative_prompt": "blue", "guidance": 1.0},
            '"negative_prompt" had no effect: the guidance is too low, above 1 it counts',
        ),
        ({"prompt": "a red circle " * 40}, "the prompt has 122 tokens, the model reads the first 77"),
    ],
)
async def test_what_is_not_done_as_asked_is_said(shapes: ImageRunner, change: dict[str, object], warning: str) -> None:
    assert (await drawn(shapes, replace(RED, **change))).warnings == (warning,)  # type: ignore[arg-type]


async def test_a_negative_prompt_and_guidance_change_the_picture(shapes: ImageRunner) -> None:
    changes: list[dict[str, object]] = [{}, {"guidance": 7.0}, {"negative_prompt": "a blue square"}]
    assert len({(await drawn(shapes, replace(RED, **change))).images for change in changes}) == 3  # type: ignore[arg-type]


async def test_weights_in_a_description_change_the_picture_and_a_weight_of_one_does_not(shapes: ImageRunner) -> None:
    async def image(prompt: str, **change: object) -> bytes:
        last = await drawn(shapes, replace(RED, prompt=prompt, **change))  # type: ignore[arg-type]
        assert last.warnings == ()
        with Image.open(io.BytesIO(last.images[0])) as picture:
            assert picture.info["parameters"].splitlines()[0] == prompt
            return picture.tobytes()

    plain, one = await image("a red circle"), await image("a (red:1) circle")
    weighted = {
        await image(prompt) for prompt in ("a (red:1.4) circle", "a [red] circle", "a ((red)) circle", "a (red:0) circle")
    }
    away = {await image("a red circle", negative_prompt=negative) for negative in ("a blue square", "a (blue:1.5) square")}
    assert plain == one and len({plain, *weighted, *away}) == 7
    for change in ({"prompt": "(red:11)"}, {"negative_prompt": "(" * 99}):
        with pytest.raises(RequestError, match=r"the weight of a text must be|brackets may stand within"):
            await drawn(shapes, replace(RED, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-(2**63), -2, 0, 2**63 - 1])
async def test_every_seed_that_a_request_can_hold_is_one(shapes: ImageRunner, seed: int) -> None:
    assert (await drawn(shapes, replace(RED, steps=1, seeds=(seed,)))).images


async def test_a_drawing_starts_from_a_picture_and_keeps_its_size(shapes: ImageRunner) -> None:
    out = io.BytesIO()
    Image.new("RGB", (80, 47), "blue").save(out, "PNG")
    last = await drawn(shapes, ImageRequest(prompt="a red circle", steps=10, seeds=(1,), images=(out.getvalue(),)))
    assert last.images and last.total < 10
    with Image.open(io.BytesIO(last.images[0])) as picture:
        assert picture.size == (80, 48)
    assert last.warnings == ("the image of 80x47 pixels was scaled to 80x48",)


async def test_two_requests_draw_one_after_the_other(shapes: ImageRunner) -> None:
    async with asyncio.timeout(60):
        both = await asyncio.gather(drawn(shapes, RED), drawn(shapes, replace(RED, seeds=(13,))))
    assert both[0].images == (await drawn(shapes, RED)).images != both[1].images


@pytest.mark.req("PIC-05")
async def test_what_is_white_in_a_mask_is_drawn_anew_and_the_rest_stays(shapes: ImageRunner) -> None:
    start = (await drawn(shapes, RED)).images[0]
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    out = io.BytesIO()
    mask.save(out, "PNG")
    request = ImageRequest(prompt="a blue square", steps=4, images=(start,), mask=out.getvalue(), strength=1.0)
    (image,) = (await drawn(shapes, request)).images
    before, after = (Image.open(io.BytesIO(each)) for each in (start, image))
    halves = [(each.crop((0, 0, 32, 64)).tobytes(), each.crop((32, 0, 64, 64)).tobytes()) for each in (before, after)]
    assert halves[0][0] != halves[1][0] and halves[0][1] == halves[1][1]


@pytest.mark.req("PIC-06")
async def test_several_pictures_are_those_that_each_seed_draws_alone(shapes: ImageRunner) -> None:
    *steps, last = await chunks_of(shapes, replace(RED, seeds=(12, 13)))
    assert [(step.completed, step.total) for step in steps] == [(n, 8) for n in range(9)]
    alone = [(await drawn(shapes, replace(RED, seeds=(seed,)))).images[0] for seed in (12, 13)]
    assert list(last.images) == alone


@pytest.mark.req("PIC-08")
async def test_every_second_step_has_a_preview_that_looks_like_the_picture(shapes: ImageRunner) -> None:
    *steps, last = await chunks_of(shapes, replace(RED, prompt="a red circle on a blue background", steps=8, preview=2))
    assert [step.completed for step in steps if step.preview] == [2, 4, 6]
    assert steps[6].preview is not None and len(steps[6].preview) < 20_000
    with Image.open(io.BytesIO(steps[6].preview), formats=["JPEG"]) as small, Image.open(io.BytesIO(last.images[0])) as whole:
        middle, corner = ((small.width // 2, small.height // 2), (0, 0))
        coarse = whole.resize(small.size, Image.Resampling.BOX)
        for place in (middle, corner):
            shown, real = small.getpixel(place), coarse.getpixel(place)
            assert isinstance(shown, tuple) and isinstance(real, tuple)
            assert (shown[0] > shown[2]) == (real[0] > real[2])


async def test_a_picture_says_what_it_was_drawn_with(shapes: ImageRunner) -> None:
    with Image.open(io.BytesIO((await drawn(shapes, RED)).images[0])) as picture:
        assert picture.info["parameters"].splitlines() == [
            "a red circle",
            "Steps: 4, CFG scale: 4, Seed: 12, Size: 64x64, Model: shapes:latest, Version: Serow",
        ]


async def test_a_scheduler_that_is_named_draws_another_picture_and_is_told_in_it(shapes: ImageRunner) -> None:
    named = await chunks_of(shapes, replace(RED, scheduler="Heun Karras"))
    own, heun, ddim = [(await drawn(shapes, replace(RED, scheduler=name))).images[0] for name in (None, "Heun Karras", "DDIM")]
    assert named[-1].images == (heun,) and pixels(heun) != pixels(own) == pixels(ddim)
    assert {step.total for step in named} == {7}  # each step but the last is computed twice
    with Image.open(io.BytesIO(heun)) as picture:
        assert "Steps: 4, Sampler: Heun Karras, CFG scale: 4," in picture.info["parameters"]


def pixels(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.tobytes()


@pytest.mark.req("LIFE-05")
async def test_a_drawing_that_nobody_waits_for_ends_after_its_step(shapes: ImageRunner) -> None:
    async with aclosing(shapes.draw(replace(RED, steps=1000))) as chunks:
        assert (await anext(chunks)).total == 1000
    async with asyncio.timeout(10):
        assert (await drawn(shapes, RED)).images


async def test_only_who_has_the_key_may_ask(shapes: ImageRunner) -> None:
    async with shapes._child.session.get("/health", headers={"Authorization": "Bearer none"}) as response:
        assert response.status == 401


async def test_the_prompt_is_written_nowhere(shapes: ImageRunner) -> None:
    await drawn(shapes, replace(RED, prompt="a confidential circle " * 40))
    assert b"confidential" not in shapes._child._stderr


@pytest.mark.req("LIFE-06")
async def test_a_drawing_whose_process_dies_fails(fresh: ImageRunner) -> None:
    chunks = fresh.draw(replace(RED, steps=1000))
    await anext(chunks)
    psutil.Process(fresh.pid).kill()
    with pytest.raises(EngineDied, match="signal 9"):
        async for _ in chunks:
            pass
    assert not fresh.is_alive


def leave(runner: ImageRunner, size: int) -> None:
    """Let a child take no more memory than it has, but for so much."""
    limit = psutil.Process(runner.pid).memory_info().data + size
    psutil.Process(runner.pid).rlimit(psutil.RLIMIT_DATA, (limit, limit))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of another process")
async def test_what_can_not_fit_is_refused_before_it_is_drawn_with_a_size_that_fits(fresh: ImageRunner) -> None:
    leave(fresh, 200 << 20)
    with pytest.raises(NotEnoughMemory, match=r"^a picture of 2048x2048 needs about [0-9.]+ GiB .*: \d+x\d+ fits$") as refused:
        await drawn(fresh, replace(RED, width=2048, height=2048))
    width, height = str(refused.value).rpartition(": ")[2].removesuffix(" fits").split("x")
    assert fresh.is_alive and (await drawn(fresh, replace(RED, width=int(width), height=int(height), steps=1))).images


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of another process")
async def test_memory_that_ends_on_the_way_is_told_in_numbers_and_the_pipeline_is_to_be_loaded_anew(fresh: ImageRunner) -> None:
    chunks = fresh.draw(replace(RED, width=1024, height=1024, steps=50))
    await anext(chunks)
    leave(fresh, 1 << 20)
    with pytest.raises(
        NotEnoughMemory, match=r"^the picture needs more memory than the [0-9.]+ GiB that were free, [0-9.]+ GiB"
    ):
        async for _ in chunks:
            pass
    assert not fresh.is_alive


async def test_memory_goes_back_when_it_is_closed() -> None:
    runner = runner_of(SHAPES)
    await runner.load()
    process = psutil.Process(runner.pid)
    assert runner.size > 100 << 20
    await runner.close()
    assert not process.is_running() and not runner.is_alive


def damaged(tmp_path: Path, name: str, data: bytes | None) -> Path:
    """A copy of zoo-shapes with one file replaced, or gone."""
    folder = shutil.copytree(SHAPES, tmp_path / "shapes")
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.req("PIC-07")
@pytest.mark.parametrize(("byte", "message"), [(b"\xff", "numbers that are none"), (b"\0", "one flat colour")])
async def test_a_broken_autoencoder_gives_an_error_and_no_black_picture(tmp_path: Path, byte: bytes, message: str) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    data = (SHAPES / name).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    runner = runner_of(damaged(tmp_path, name, data[:begin] + byte * (len(data) - begin)))
    await runner.load()
    try:
        with pytest.raises(EngineError, match=message):
            await drawn(runner, RED)
        assert runner.is_alive
    finally:
        await runner.close()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "unet/diffusion_pytorch_model.safetensors",
            b"\1" * 100,
            "unet/diffusion_pytorch_model.safetensors: a safetensors file is broken",
        ),
        ("unet/config.json", None, "the part unet (UNet2DConditionModel) has no config.json"),
        ("model_index.json", b'{"_class_name": "X", "unet": ["os", "y"]}', "the part unet is code of the model's own"),
        (
            "model_index.json",
            b'{"_class_name": "DDIMPipeline", "unet": ["diffusers", "UNet2DModel"]}',
            "the files of the part unet (UNet2DModel)",
        ),
        (
            "unet/config.json",
            json.dumps({**json.loads((SHAPES / "unet/config.json").read_bytes()), "norm_num_groups": 0}).encode(),
            "the files of the part unet (UNet2DConditionModel) can't be loaded: ZeroDivisionError",
        ),
    ],
    ids=["broken weights", "no configuration", "foreign code", "another kind of pipeline", "settings of no network"],
)
async def test_a_folder_that_can_not_be_loaded_says_why(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    runner = runner_of(damaged(tmp_path, name, data))
    with pytest.raises(LoadError) as failed:
        await runner.load()
    assert str(failed.value).startswith(message) and str(tmp_path) not in str(failed.value)


def test_without_the_packages_the_request_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.engines.diffusers.installed._found", set())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(RequestError, match="image models need the package torch"):
        require_packages()


@pytest.mark.parametrize("kind", ["stable_diffusion", "flux", "z_image", "qwen_image"])
async def test_pipelines_of_each_kind_are_loaded_and_draw(folders: Path, kind: str) -> None:
    runner = runner_of(folders / kind)
    await runner.load()
    try:
        request = ImageRequest(
            prompt="a {cat}", width=36, height=32, steps=2, seeds=(1,), guidance=3.0, negative_prompt="a dog", preview=1
        )
        *steps, last = await chunks_of(runner, request)
        assert len(steps) == 3 and steps[1].preview and last.images
        assert "width 36 was rounded to 32: the model draws in multiples of 8" in last.warnings
        again = await drawn(runner, replace(request, images=last.images, negative_prompt=None))
        assert again.images
    finally:
        await runner.close()
