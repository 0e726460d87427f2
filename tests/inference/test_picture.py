"""The flow of pictures with an engine that draws nothing."""

import base64

import pytest

from serow.errors import RequestError
from serow.inference.ask import Ask, Picture
from tests.support.engine import PNG, FakeEngine, FakePainter
from tests.support.flow import flow


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws is taken to be installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


async def test_each_step_is_a_record_and_the_last_one_has_the_picture() -> None:
    painter = FakePainter()
    async with flow(painter) as asked:
        *steps, last = await asked.generate("a cat", steps=3, width=64)
    assert [(step["completed"], step["total"], step["response"], step["done"]) for step in steps] == [
        (number, 3, "", False) for number in (1, 2, 3)
    ]
    assert base64.b64decode(last["image"]) == PNG and (last["done"], last["done_reason"]) == (True, "stop")
    assert (painter.requests[0].prompt, painter.requests[0].width) == ("a cat", 64)


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
    assert (wanted.width, wanted.height, wanted.steps, wanted.guidance, wanted.seed) == (64, 32, 3, 4.0, None)


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
