"""Formats made to hurt: refused or taken within two seconds, and nobody waits meanwhile."""

import asyncio
import time

import pytest

from serow.constraints import Constraints
from serow.errors import FormatError
from tests.constraints.hostile import HOSTILE, TEXTS

pytestmark = pytest.mark.req("GEN-12")

LIMIT = 3.0  # seconds: two, and one for a machine that is busy with tests
LONGEST_STALL = 0.25


class Loop:
    """Notices how long the event loop stood still."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    async def end(self) -> float:
        self._task.cancel()
        await asyncio.wait({self._task})
        return self.longest


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_format_is_settled_in_two_seconds(constraints: Constraints, name: str) -> None:
    format, loop, start = HOSTILE[name](), Loop(), time.monotonic()
    try:
        await constraints.compile(format)
    except FormatError as error:
        assert str(error).startswith("invalid format: ")
    assert time.monotonic() - start < LIMIT
    assert await loop.end() < LONGEST_STALL


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_that_takes_long_to_judge_is_not_known_to_fit(constraints: Constraints, name: str) -> None:
    format, text = TEXTS[name]()
    constraint = await constraints.compile(format)
    assert constraint is not None
    loop, start = Loop(), time.monotonic()
    verdict = await constraints.judge(constraint, "", text)
    assert time.monotonic() - start < LIMIT
    assert await loop.end() < LONGEST_STALL
    assert not verdict.is_valid
    assert verdict.warning.startswith("format: the check of the answer took too")
