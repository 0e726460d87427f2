"""Formats compiled and texts judged elsewhere: within limits, together, remembered."""

import asyncio
import time
from typing import Any

import pytest

from serow.constraints import Constraints
from serow.constraints.service import CACHED_FORMATS
from serow.errors import FormatError

pytestmark = pytest.mark.req("GEN-12")


async def test_a_text_is_judged(constraints: Constraints) -> None:
    constraint = await constraints.compile({"type": "array", "uniqueItems": True})
    assert constraint is not None
    assert (await constraints.judge(constraint, "", "[1, 2]")).is_valid
    assert not (await constraints.judge(constraint, "", "[1, 1]")).is_valid


async def test_a_cut_text_does_not_fit_and_says_why(constraints: Constraints) -> None:
    constraint = await constraints.compile({"type": "array"})
    assert constraint is not None
    verdict = await constraints.judge(constraint, "", "[1, 2", True)
    assert (verdict.is_valid, verdict.warning) == (False, "format: the answer was cut before it was whole, so it does not fit")


async def test_the_same_format_is_compiled_once_also_at_the_same_time(constraints: Constraints) -> None:
    schema = {"type": "object", "properties": {"only here": {}}}
    first, *others = await asyncio.gather(*(constraints.compile(dict(schema)) for _ in range(5)))
    assert all(each is first for each in [*others, await constraints.compile(dict(schema))])


async def test_what_was_refused_is_refused_again(constraints: Constraints) -> None:
    for _ in range(2):
        with pytest.raises(FormatError, match="must be one or more of"):
            await constraints.compile({"type": 5})


async def test_who_leaves_does_not_end_what_another_waits_for(constraints: Constraints) -> None:
    schema = {"properties": {f"q{number}": {"type": "string"} for number in range(1000)}}
    leaves, stays = (asyncio.create_task(constraints.compile(schema)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays is not None
    assert leaves.cancelled()


async def test_formats_are_remembered_up_to_a_bound(constraints: Constraints) -> None:
    for number in range(CACHED_FORMATS + 10):
        assert await constraints.compile({"const": number})
    assert len(constraints._known) == CACHED_FORMATS


async def test_an_everyday_schema_costs_little_more_than_in_our_own_process(constraints: Constraints) -> None:
    from serow.constraints import compile_format

    def schema(number: int) -> dict[str, Any]:
        names = [f"{name}{number}" for name in ("title", "pages", "tags")]
        values = ({"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}})
        return {"type": "object", "properties": dict(zip(names, values, strict=True)), "required": names}

    here, there = [], []
    for number in range(30):
        start = time.perf_counter()
        compile_format(schema(number))
        middle = time.perf_counter()
        await constraints.compile(schema(number))
        here.append(middle - start)
        there.append(time.perf_counter() - middle)
    assert min(there) - min(here) < 0.002
