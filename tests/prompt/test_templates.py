"""Templates that take long are rendered elsewhere, within limits; one budget holds for a whole prompt."""

import asyncio
import time

import pytest

from serow.errors import TemplateError
from serow.prompt.templates import QUICK_STEPS, Rendering, Templates
from serow.prompt.turns import Turn
from serow.workers.pool import Pool

MESSAGES = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}"
WORK = '{{ define "t" }}{{ if eq .Prompt .Prompt }}{{ end }}{{ end }}'
CALL = '{{ template "t" . }}'
SLOW = WORK + CALL * 1200 + "{{ .Prompt }}{{ .Response }}"


def turns(count: int) -> list[Turn]:
    return [Turn(("user", "assistant")[number % 2], f"text {number}") for number in range(count)]


async def test_a_long_conversation_is_rendered_as_a_short_one_is() -> None:
    async with Pool() as pool:
        elsewhere = Rendering(Templates(pool))
        for count in (1, 5, QUICK_STEPS):
            assert await elsewhere.render(MESSAGES, turns(count), None) == await Rendering().render(
                MESSAGES, turns(count), None
            )


@pytest.mark.req("GEN-08")
async def test_exchanges_share_one_budget_and_nobody_waits() -> None:
    async with Pool() as pool:
        await Rendering(Templates(pool)).render(MESSAGES, turns(QUICK_STEPS), None)  # a process has started
        start = last = time.monotonic()
        rendering = asyncio.create_task(Rendering(Templates(pool)).render(SLOW, turns(1000), None))
        longest = 0.0
        while not rendering.done():
            await asyncio.sleep(0.002)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        with pytest.raises(TemplateError, match=r"^template: took too m"):
            await rendering
        assert time.monotonic() - start < 3
        assert longest < 0.25


async def test_an_insert_template_that_takes_long_is_filled_in_elsewhere() -> None:
    source = WORK + CALL * 300 + "{{ .Prompt }}|{{ .Suffix }}"
    async with Pool() as pool:
        assert await Rendering(Templates(pool)).fill_in(source, "a", "b") == "a|b"


async def test_an_error_of_a_template_is_the_same_wherever_it_is_rendered() -> None:
    source = MESSAGES + "{{ len 5 }}"
    async with Pool() as pool:
        for count in (1, QUICK_STEPS):
            with pytest.raises(TemplateError) as here:
                await Rendering().render(source, turns(count), None)
            with pytest.raises(TemplateError) as elsewhere:
                await Rendering(Templates(pool)).render(source, turns(count), None)
            assert str(elsewhere.value) == str(here.value)
