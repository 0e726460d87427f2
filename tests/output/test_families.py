"""Every family's calls are found by its template alone, however its model writes them."""

import json

import pytest

from serow.output.known import FAMILIES as PARSERS
from serow.output.known import format_known
from serow.output.thinking import ThinkingTags
from tests.output.families import FAMILIES, ONE_CALL, format_of, parse, template_of, written

SIZES = (0, 1, 3, 7)
THINK = ThinkingTags("<think>", "</think>")
NESTED = {"a": 1, "note": 'é 日本 😀 "q" <b>& {x} [y]', "deep": {"x": [1, 2.5, True], "y": {"z": "ü"}}}
family = pytest.mark.parametrize("family", FAMILIES)


def test_there_are_more_than_twenty_families() -> None:
    assert len(FAMILIES) > 20 and set(FAMILIES) == set(ONE_CALL)


@pytest.mark.req("TOOL-03")
@family
async def test_a_call_is_found(family: str) -> None:
    for size in SIZES:
        found = parse(ONE_CALL[family], await format_of(family), size=size, tags=tags_of(family))
        assert [(name, json.loads(arguments)) for name, arguments in found.calls] == [("add", {"a": 37, "b": 85})]
        assert (found.text, found.warnings) == ("", [])


def tags_of(family: str) -> ThinkingTags | None:
    return ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>") if family == "command_r7b" else None


@pytest.mark.req("TOOL-03")
@family
async def test_two_calls_are_found_as_the_template_writes_them(family: str) -> None:
    calls = [("add", {"a": 1, "b": 2.5}), ("now", {})]
    text = written(family, calls) or ONE_CALL[family]
    expected = calls if written(family, calls) else [("add", {"a": 37, "b": 85})]
    for size in SIZES:
        found = parse(text, await format_of(family), size=size, tags=tags_of(family))
        assert [(name, json.loads(arguments)) for name, arguments in found.calls] == expected
        assert [end.index for end in found.ends] == list(range(len(expected)))
        assert found.text == ""


@pytest.mark.req("TOOL-03")
@family
async def test_arguments_keep_unicode_depth_and_order(family: str) -> None:
    text = written(family, [("add", NESTED)])
    for size in SIZES if text else ():
        found = parse(text, await format_of(family), size=size, tags=tags_of(family))
        [(_, arguments)] = found.calls
        assert json.loads(arguments) == NESTED and list(json.loads(arguments)) == list(NESTED)
        assert found.streamed == {0: arguments}


@pytest.mark.req("TOOL-04")
@family
async def test_text_before_a_call_is_content_without_its_white_space(family: str) -> None:
    if family in ("llama3", "command_r7b", "gpt_oss"):
        pytest.skip("a call stands alone here")
    for size in SIZES:
        found = parse("I look. \n\n" + ONE_CALL[family], await format_of(family), size=size)
        assert (found.text, len(found.calls)) == ("I look.", 1)


@pytest.mark.req("TOOL-08")
@family
async def test_a_call_follows_the_thinking(family: str) -> None:
    for size in SIZES:
        call = ONE_CALL[family].partition("<|END_THINKING|>")[2] or ONE_CALL[family]
        found = parse("<think>\nHm.\n</think>\n\n" + call, await format_of(family), size=size, tags=THINK)
        assert (found.thinking, found.text, len(found.calls)) == ("Hm.\n", "", 1)


@pytest.mark.req("TOOL-05")
@family
async def test_a_cut_call_is_content_to_the_last_character(family: str) -> None:
    call = ONE_CALL[family].partition("<|END_THINKING|>")[2] or ONE_CALL[family]
    cut = call[: call.index("85")]
    for size in SIZES:
        found = parse(cut, await format_of(family), size=size, is_cut=True)
        assert (found.text, found.calls, len(found.warnings)) == (cut, [], 1)


@pytest.mark.req("TOOL-05")
@family
async def test_a_call_of_another_tool_is_content(family: str) -> None:
    call = ONE_CALL[family].partition("<|END_THINKING|>")[2] or ONE_CALL[family]
    text = call.replace("add", "nope")
    for size in SIZES:
        found = parse(text, await format_of(family), size=size)
        assert found.calls == []
        assert found.text.startswith(text[: text.index("nope") + 4])


@pytest.mark.req("TOOL-05")
@family
async def test_a_mark_in_prose_is_prose(family: str) -> None:
    format = await format_of(family)
    for opening in format.openings:
        text = f"One writes {opening} here. add (37) is a call."
        found = parse(text, format, size=3)
        assert (found.text, found.calls) == (text, [])


@family
async def test_without_tools_nothing_is_a_call(family: str) -> None:
    found = parse(ONE_CALL[family], await format_of(family), tools=())
    assert (found.text, found.calls) == (ONE_CALL[family], [])


@family
async def test_marks_that_may_be_control_tokens_stay_visible(family: str) -> None:
    format = await format_of(family)
    for opening in format.openings:
        assert any(token in opening for token in format.tokens) or not opening.endswith((">", "]"))


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_each_parser_of_the_peer_has_a_family(name: str) -> None:
    assert len(PARSERS) == 27
    assert (PARSERS[name].format is None) == (name == "passthrough")


PEERS_CALLS = {
    "cogito": ONE_CALL["deepseek_r1"],
    "cohere": ONE_CALL["command_r7b"].partition("<|END_THINKING|>")[2],
    "deepseek3": ONE_CALL["deepseek_v31"],
    "functiongemma": ONE_CALL["function_gemma"],
    "gemma4": ONE_CALL["gemma4"],
    "glimmer": '<atem:function_calls>\n<atem:invoke name="add">\n<atem:parameter name="a">37</atem:parameter>\n'
    '<atem:parameter name="b">85</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
    "glm-4.7": ONE_CALL["glm"].replace("\n", ""),
    "harmony": ONE_CALL["gpt_oss"],
    "laguna": '<tool_call>add\n{"a": 37, "b": 85}</tool_call>',
    "lfm2": ONE_CALL["lfm2"],
    "ministral": ONE_CALL["devstral"],
    "nemotron-3-nano": ONE_CALL["qwen3_coder"],
    "olmo3": ONE_CALL["olmo3"],
    "poolside-v1": ONE_CALL["hermes"],
    "qwen3": ONE_CALL["hermes"],
    "qwen3-coder": ONE_CALL["qwen3_coder"].removeprefix("<tool_call>\n"),
}


@pytest.mark.req("TOOL-03")
@pytest.mark.parametrize("name", sorted(PEERS_CALLS))
def test_a_parser_of_the_peer_reads_its_family(name: str) -> None:
    for size in SIZES:
        found = parse(PEERS_CALLS[name], PARSERS[name].format, size=size)
        assert [(call, json.loads(arguments)) for call, arguments in found.calls] == [("add", {"a": 37, "b": 85})]
        assert found.text == ""


@pytest.mark.req("TOOL-08")
@pytest.mark.parametrize("name", sorted(name for name, family in PARSERS.items() if family.tags and name in PEERS_CALLS))
def test_a_parser_of_the_peer_tells_thinking_from_calls(name: str) -> None:
    family = PARSERS[name]
    assert family.tags is not None
    text = f"{family.tags.opening}\nHm.{family.tags.closing}\n{PEERS_CALLS[name]}"
    for size in SIZES:
        found = parse(text, family.format, size=size, tags=family.tags)
        assert (found.thinking, found.text, len(found.calls)) == ("Hm.", "", 1)


def test_a_template_without_calls_is_read_by_what_it_is_most_like() -> None:
    rows = (("<arg_key>", PARSERS["glm-4.7"].format), ("", PARSERS["qwen3"].format))
    known = tuple((text, format) for text, format in rows if format)
    assert format_known("… <arg_key> …", known) == PARSERS["glm-4.7"].format
    assert format_known(template_of("hermes"), known) == PARSERS["qwen3"].format
