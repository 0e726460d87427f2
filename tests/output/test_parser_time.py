"""The parser takes linear time, whatever a model writes."""

import time

import pytest

from serow.inference.ask import Tool
from serow.output.format import CallFormat
from serow.output.known import BARE, HERMES, LFM, QWEN_CODER
from serow.output.parser import OutputParser
from tests.output.families import ADD, ADDING, NOW, THINK, parse

LONG = 4 << 20  # characters


HOSTILE = {
    "a call that never closes": '<tool_call>{"name": "add", "arguments": {"note": "' + "x" * LONG,
    "nothing but white space": " " * LONG,
    "openings alone": "<tool_call>" * (LONG // 80),
    "openings with braces": "<tool_call>{" * (LONG // 80),
    "calls without end": '{"name": "now", "arguments": {}}[' * (LONG // 160),
    "backslashes": '<tool_call>{"name": "add", "arguments": {"note": "' + "\\\\" * (LONG // 8),
    "half tags": "<tool_cal" * (LONG // 9),
    "braces": "{" * LONG,
    "quotes": '"' * LONG,
}


@pytest.mark.req("TOOL-05")
@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("format", [HERMES, BARE, QWEN_CODER, LFM], ids=["hermes", "bare", "coder", "lfm"])
def test_four_megabytes_in_one_piece_take_linear_time(name: str, format: CallFormat) -> None:
    start = time.process_time()
    found = parse(HOSTILE[name], format, is_cut=True)
    assert time.process_time() - start < 8
    assert len(found.text) == len(HOSTILE[name]) or found.calls


@pytest.mark.req("TOOL-05")
@pytest.mark.parametrize("name", ["a call that never closes", "nothing but white space", "backslashes"])
def test_single_characters_take_linear_time(name: str) -> None:
    text = HOSTILE[name]
    times = []
    for length in (50_000, 200_000):
        start = time.process_time()
        assert len(parse(text[:length], HERMES, size=1, is_cut=True).text) == length
        times.append(time.process_time() - start)
    assert times[1] < 12 * times[0]


@pytest.mark.req("TOOL-01")
def test_a_thousand_tools_cost_no_more_than_one() -> None:
    tools = [ADD, *(Tool(f"tool_{n}", {}, {}) for n in range(1000)), NOW]
    text = "Hello there. " * 10 + ADDING * 5
    pieces = [text[start : start + 4] for start in range(0, len(text), 4)]
    best = min(_seconds(pieces, tools) for _ in range(20))
    assert best / len(pieces) < 15e-6


def _seconds(pieces: list[str], tools: list[Tool]) -> float:
    parser = OutputParser(THINK, None, HERMES, tools)
    start = time.process_time()
    for piece in pieces:
        parser.feed(piece)
    parser.finish()
    return time.process_time() - start
