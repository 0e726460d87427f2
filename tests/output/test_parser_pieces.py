"""However a text is cut, the parser tells the same; drawn texts of tags, calls and halves of them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow.output.format import CallFormat
from serow.output.known import BARE, FAMILIES, HERMES, MISTRAL
from tests.output.families import THINK, parse

FORMATS = [("bare", BARE), *((name, family.format) for name, family in FAMILIES.items() if family.format)]


WORDS = (
    "<tool_call>", "</tool_call>", "<think>", "</think>", '{"name": "add", "arguments": {"a": 1}}', '{"name": "no',
    '"', "{", "}", "[", "]", "(", ")", "'", "\\", "\n", " ", ",", "x", "é", "<", "a=", "add", "now", "add(a=1)",
    "<function=add>", "<function=", "<parameter=a>", "</parameter>", "</function>", "[TOOL_CALLS]", "[ARGS]",
    "<|tool_call_start|>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "call:add{a:1}", '<|"|>', "<|tool_call>",
    "<|channel|>commentary to=functions.", "<|message|>",
)  # fmt: skip


@pytest.mark.req("TOOL-04")
@settings(max_examples=400, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=14),
    cuts=st.sets(st.integers(0, 120)),
    format=st.sampled_from([format for _, format in FORMATS]),
    thinks=st.booleans(),
    begun=st.sampled_from([None, "\n"]),
    is_cut=st.booleans(),
)
def test_the_same_text_gives_the_same_answer_however_it_is_cut(
    words: list[str], cuts: set[int], format: CallFormat, thinks: bool, begun: str | None, is_cut: bool
) -> None:
    text = "".join(words)
    tags = THINK if thinks else None
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    whole = parse(text, format, tags=tags, begun=begun, is_cut=is_cut)
    for pieces in ([text[a:b] for a, b in pairwise(edges)], list(text)):
        found = parse(pieces, format, tags=tags, begun=begun, is_cut=is_cut)
        assert (found.thinking, found.text, found.calls) == (whole.thinking, whole.text, whole.calls)
        assert found.warnings == whole.warnings
        assert all(found.streamed[end.index] == end.arguments for end in found.ends)
        assert not any(json.loads(arguments) is None for _, arguments in found.calls)


@pytest.mark.req("TOOL-05")
@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=14), format=st.sampled_from([format for _, format in FORMATS]))
def test_text_without_a_call_loses_nothing(words: list[str], format: CallFormat) -> None:
    text = "".join(words)
    found = parse(text, format, size=3)
    if not found.calls and not any(mark in text for mark in format.hidden):
        assert found.text == text


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.req("TOOL-03")
@settings(max_examples=200, deadline=None)
@given(arguments=st.dictionaries(st.text(max_size=8), VALUES, max_size=4), size=st.integers(0, 9), is_ascii=st.booleans())
def test_any_arguments_come_through_byte_for_byte(arguments: dict[str, Any], size: int, is_ascii: bool) -> None:
    text = json.dumps(arguments, ensure_ascii=is_ascii)
    assert parse(f'<tool_call>{{"name": "add", "arguments": {text}}}</tool_call>', HERMES, size=size).calls == [("add", text)]
    assert parse(f"[TOOL_CALLS]add[ARGS]{text}", MISTRAL, size=size).calls == [("add", text)]
