"""The flow of pictures with an engine that draws nothing."""

import asyncio
import base64
from contextlib import aclosing

import pytest

from serow.errors import RequestError
from serow.inference.ask import Ask, Picture
from tests.support.engine import PNG, FakeEngine, FakePainter
from tests.support.flow import flow


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws is taken to be installed."""
    monkeypatch.setattr("serow.engines.diffusers.installed._found", set())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("serow.engines.diffusers.installed._found", set())


async def test_each_step_is_a_record_and_the_last_one_has_the_picture() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        *steps, last = await asked.generate("a cat", steps=3, width=64)
    assert [(step["completed"], step["total"], step["response"], step["done"]) for step in steps] == [
        (number, 3, "", False) for number in (1, 2, 3)
    ]
    assert base64.b64decode(last["image"]) == PNG and (last["done"], last["done_reason"]) == (True, "stop")
    assert (painter.requests[0].prompt, painter.requests[0].width) == ("a cat", 64)


async def test_of_a_seed_that_is_too_large_the_low_bits_count_and_that_is_told() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        record = await asked.whole("a cat", options={"seed": 2**64 + 7})
    assert painter.requests[0].seeds == (7,) and record["warnings"] == ['option "seed" is used modulo 2^64']


async def test_a_whole_answer_is_the_last_record() -> None:
    async with flow(FakePainter(warnings=("width 61 was rounded to 64",)), parameters={"steps": 2}) as asked:
        record = await asked.whole("a cat", options={"seed": 5}, system="x")
    assert "image" in record and "completed" not in record
    assert record["warnings"] == ['"system" was ignored: "m" is an image model', "width 61 was rounded to 64"]


async def test_the_requests_numbers_lie_over_its_options_and_these_over_the_models() -> None:
    painter = FakePainter()
    async with flow(painter, parameters={"width": 64, "height": 64, "steps": 12, "guidance": 4.0}) as asked:
        await asked.whole("a cat", steps=3, options={"height": 32, "steps": 6})
    (wanted,) = painter.requests
    assert (wanted.width, wanted.height, wanted.steps, wanted.guidance) == (64, 32, 3, 4.0)


@pytest.mark.req("CHAT-02")
@pytest.mark.parametrize("messages", [[], ["a cat"]])
async def test_an_image_model_does_not_chat(messages: list[str]) -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        with pytest.raises(RequestError, match='"m" does not support chat'):
            await asked.chat(*messages)
    assert painter.num_loads == 0


async def test_only_an_image_model_draws() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError, match='"m" does not support image generation'):
            await anext(asked.inference.answer(Ask(model="m", prompt=Picture("a cat"))))


async def test_an_empty_prompt_loads_and_keep_alive_zero_unloads() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        assert (await asked.generate())[0]["done_reason"] == "load" and painter.is_alive
        assert (await asked.generate(keep_alive=0))[0]["done_reason"] == "unload" and not painter.is_alive


@pytest.mark.req("GEN-18")
async def test_several_pictures_come_in_the_last_record_with_the_seed_of_the_first() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        *_, last = await asked.generate("a cat", options={"n": 3, "seed": 2**64 - 2})
        one = await asked.whole("a cat", options={"seed": 5})
    assert [base64.b64decode(each) for each in last["images"]] == [PNG] * 3 and last["image"] == last["images"][0]
    assert last["seed"] == 2**64 - 2 and painter.requests[0].seeds == (2**64 - 2, 2**64 - 1, 0)
    assert one["seed"] == 5 and "images" not in one


@pytest.mark.req("GEN-18")
async def test_a_seed_that_nobody_gave_is_told_and_another_one_each_time() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        told = [(await asked.whole("a cat"))["seed"] for _ in range(2)]
    assert [request.seeds for request in painter.requests] == [(seed,) for seed in told] and told[0] != told[1]


@pytest.mark.req("GEN-18")
async def test_pictures_mask_and_strength_reach_the_engine_and_a_mask_alone_is_refused(png: str) -> None:
    painter, picture = FakePainter(), png
    async with flow(painter) as asked:
        await asked.whole("a cat", images=[picture, picture], options={"mask": picture, "strength": 0.5})
        with pytest.raises(RequestError, match="a mask needs the picture that it belongs to"):
            await asked.whole("a cat", options={"mask": picture})
        with pytest.raises(RequestError, match="the mask is not base64 of a picture"):
            await asked.whole("a cat", images=[picture], options={"mask": "!"})
        record = await asked.whole("a cat", options={"strength": 0.5})
    wanted = painter.requests[0]
    assert (len(wanted.images), wanted.mask is not None, wanted.strength) == (2, True, 0.5)
    assert record["warnings"] == ['option "strength" was ignored: there is no picture to start from']
    assert painter.requests[1].strength is None


@pytest.mark.req("GEN-18")
async def test_a_load_that_takes_long_is_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.inference.awaited.QUIET", 0.01)
    painter, may_load = FakePainter(), asyncio.Event()
    load = painter.load

    async def slow() -> None:
        await may_load.wait()
        await load()

    monkeypatch.setattr(painter, "load", slow)
    async with flow(painter) as asked, asyncio.timeout(10), aclosing(asked.records("a cat", steps=3)) as records:
        first = await anext(records)
        may_load.set()
        rest = [record async for record in records]
    assert (first["completed"], first["total"], first["status"], first["done"]) == (0, 3, "loading the model", False)
    assert rest[-1]["done"] and "status" not in rest[0]


@pytest.mark.req("LIFE-05")
async def test_a_client_that_leaves_while_the_model_loads_leaves_no_place_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.inference.awaited.QUIET", 0.01)
    painter, loading = FakePainter(), asyncio.Event()

    async def slow() -> None:
        await loading.wait()

    monkeypatch.setattr(painter, "load", slow)
    async with flow(painter) as asked, asyncio.timeout(10):
        async with aclosing(asked.records("a cat")) as records:
            await anext(records)
        assert asked.scheduler.num_waiting == 0
        loading.set()
        assert (await asked.whole("a cat"))["done"]
    assert len(painter.requests) == 1
