"""Thinking, text and calls told apart while they stream, wherever the pieces split."""

import json

import pytest

from serow.engines.base import Logprob
from serow.inference.ask import Tool
from serow.inference.events import Delta, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.output.format import CallFormat, Kind
from serow.output.known import BARE, FAMILIES, HERMES, LFM, QWEN_CODER
from serow.output.parser import OutputParser
from tests.output.families import ADDING, THINK, TOOLS, Folded, parse

SIZES = (0, 1, 2, 5)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hi", "Hi", []),
        ("  Hi \n", "  Hi \n", []),
        (ADDING, "", ["add"]),
        (f"Hi \n{ADDING}\n bye \n", "Hibye \n", ["add"]),
        (f"{ADDING}\n{ADDING}", "", ["add", "add"]),
        (f"{ADDING}\n\n", "", ["add"]),
        ('<tool_call>{"name":"now"}</tool_call>', "", ["now"]),
        ('<tool_call>{"name":"now","arguments":null}</tool_call>', "", ["now"]),
        ('<tool_call>{"arguments":{"a":1},"name":"add"}</tool_call>', "", ["add"]),
        ('<tool_call>{"type":"function","function":{"name":"add","arguments":{}}}</tool_call>', "", ["add"]),
        ('<tool_call>[{"name":"add","arguments":{}},{"name":"now","arguments":{}}]</tool_call>', "", ["add", "now"]),
        ('<tool_call>{"name":"add","arguments":"{\\"a\\": 1}"}</tool_call>', "", ["add"]),
        ('<tool_call>{"name":"add","arguments":{}}', "", ["add"]),
        ('<tool_call>{"name":"add","arguments":{}}</tool_', "", ["add"]),
        ('<tool_call>{"name":"add","arguments":{}}</tool_call></tool_call> x', "x", ["add"]),
        (f"<tool_call> is a mark. {ADDING}", "<tool_call> is a mark.", ["add"]),
        (f"<tool_call>{ADDING}", "<tool_call>", ["add"]),
        ("a < b and c <tool", "a < b and c <tool", []),
    ],
)
@pytest.mark.req("TOOL-03", "TOOL-04")
def test_text_and_calls_are_told_apart(text: str, content: str, calls: list[str]) -> None:
    for size in SIZES:
        found = parse(text, HERMES, size=size)
        assert (found.text, [name for name, _ in found.calls]) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "nope", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "Add", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "ad", "arguments": {"q": "add"}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "add", "arguments": 5}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "no object"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 01}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a" 1}}</tool_call>',
        '<tool_call>{"name": "add" "arguments": {}}</tool_call>',
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "name": "now", "arguments": {}}</tool_call>',
        '<tool_call>{name: "add"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": ' + "[" * 1000 + "]" * 1000 + "}}</tool_call>",
    ],
)
@pytest.mark.req("TOOL-05")
def test_what_is_no_call_stays_text_to_the_last_character_and_is_warned_of(text: str) -> None:
    for size in SIZES:
        found = parse(f"Hi {text} bye", HERMES, size=size)
        assert (found.text, found.calls) == (f"Hi {text} bye", [])
        assert found.warnings and all(warning.endswith("its text is part of the content") for warning in found.warnings)


@pytest.mark.req("TOOL-05")
def test_a_call_that_is_cut_is_text() -> None:
    for length in range(len("<tool_call>") + 1, len(ADDING) - len("}\n</tool_call>")):
        found = parse(ADDING[:length], HERMES, size=3, is_cut=True)
        assert (found.text, found.calls) == (ADDING[:length], [])


@pytest.mark.req("TOOL-04")
def test_half_an_opening_at_the_end_is_text() -> None:
    assert parse("Hi <tool_ca", HERMES, size=1).text == "Hi <tool_ca"


@pytest.mark.req("TOOL-05")
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('{"name": "add", "parameters": {"a": 1}}', "", 1),
        (' \n{"name": "add", "arguments": {}}', "", 1),
        ('[{"name": "add", "arguments": {}}, {"name": "now", "arguments": {}}]', "", 2),
        ('{"name": "add", "arguments": {}}{"name": "now", "arguments": {}}', "", 2),
        ('{"city": "Paris"}', '{"city": "Paris"}', 0),
        ('{"name": "add"}', '{"name": "add"}', 0),
        ("[1, 2]", "[1, 2]", 0),
        ("{", "{", 0),
        ('So: {"name": "add", "arguments": {}}', 'So: {"name": "add", "arguments": {}}', 0),
        ('{"name": "Paris", "arguments_of": 1}', '{"name": "Paris", "arguments_of": 1}', 0),
        ('{"parameters": {"a": 1}, "name": 5}', '{"parameters": {"a": 1}, "name": 5}', 0),
        ('{"name": "now", "arguments": null}', "", 1),
    ],
)
def test_without_an_opening_only_the_beginning_is_a_call(text: str, content: str, calls: int) -> None:
    for size in SIZES:
        found = parse(text, BARE, size=size)
        assert (found.text, len(found.calls)) == (content, calls)
        assert found.warnings == []


@pytest.mark.req("TOOL-05")
@pytest.mark.parametrize(
    "text",
    ['{"name": "nope", "arguments": {"a": 1}}', '{"parameters": {}, "name": "nope"}', '[{"name": "nope", "arguments": {}}]'],
)
def test_without_an_opening_a_call_of_a_strange_tool_is_text_and_told(text: str) -> None:
    for size in SIZES:
        found = parse(text, BARE, size=size)
        assert (found.text, found.calls) == (text, [])
        assert found.warnings == ['the model called "nope", which is no given tool; its text is part of the content']


@pytest.mark.req("TOOL-03")
def test_arguments_stay_as_they_are_written() -> None:
    arguments = '{ "z":1.0 ,"a": 12345678901234567890,"e":1E5,\n "t":"}\\"\\u00e9 \\\\", "o":{"y":[1,{"b":null}]} }'
    for size in SIZES:
        found = parse(f'<tool_call>{{"name":"add","arguments":{arguments}}}</tool_call>', HERMES, size=size)
        assert found.calls == [("add", arguments)]
        assert found.streamed == {0: arguments}


@pytest.mark.req("TOOL-04")
def test_the_name_is_told_before_the_arguments_are_read_and_these_come_in_pieces() -> None:
    parser = OutputParser(format=HERMES, tools=TOOLS)
    assert parser.feed("Hi <tool_call>\n{") == [Delta("Hi")]
    [start] = parser.feed('"name": "add", "arguments"')
    assert isinstance(start, ToolCallStart) and (start.index, start.name) == (0, "add")
    assert parser.feed(': {"a": 1') == [ToolCallArguments(0, '{"a": 1')]
    assert parser.call is not None
    *_, end = parser.feed("2}}")
    assert end == ToolCallEnd(0, start.id, "add", '{"a": 12}')
    assert parser.feed("\n</tool_call>") == [] and parser.num_calls == 1 and parser.call is None
    assert parser.finish() == []


@pytest.mark.req("TOOL-03")
def test_ids_are_unique_and_the_models_own_are_kept() -> None:
    format = CallFormat(Kind.OBJECT, ("[TOOL_CALLS]",), is_list=True, is_id_last=True)
    ours = parse(ADDING * 50, HERMES).ends
    assert len({end.id for end in ours}) == 50
    assert all(len(end.id) == 13 and end.id.startswith("call_") and end.id[5:].isalnum() for end in ours)
    calls = (
        '[TOOL_CALLS][{"name":"now","arguments":{},"id":"a1"},{"name":"now","arguments":{},"id":"a1"},{"name":"now","id":"b2"}]'
    )
    first, second, third = (end.id for end in parse(calls, format, size=4).ends)
    assert (first, third) == ("a1", "b2") and second.startswith("call_")


@pytest.mark.req("TOOL-08")
@pytest.mark.parametrize(
    ("text", "begun", "thinking", "content", "calls"),
    [
        (f"<think>\nHm.\n</think>\n\n{ADDING}", None, "Hm.\n", "", 1),
        (f"Hm.</think>Hi {ADDING}", "\n", "Hm.", "Hi", 1),
        (f"Hm. {ADDING} bye", "\n", "Hm. ", "bye", 1),
        (f"<think>Hm. {ADDING}</think>", None, "Hm. ", "</think>", 1),
        ("Hm: <tool_call> is a mark.</think>Hi", "\n", "Hm: <tool_call> is a mark.", "Hi", 0),
        ('Hm <tool_call>{"name":"nope"}</think>Hi', "\n", 'Hm <tool_call>{"name":"nope"}', "Hi", 0),
        ("<think>Hm</think> \n", None, "Hm", "", 0),
        (f"<thi{ADDING}", None, "", "<thi", 1),
    ],
)
def test_a_call_ends_the_thinking(text: str, begun: str | None, thinking: str, content: str, calls: int) -> None:
    for size in SIZES:
        found = parse(text, HERMES, size=size, tags=THINK, begun=begun)
        assert (found.thinking, found.text, len(found.calls)) == (thinking, content, calls)


@pytest.mark.req("TOOL-05")
def test_a_call_that_is_cut_inside_the_thinking_is_text() -> None:
    found = parse('Hm. <tool_call>\n{"name": "ad', HERMES, tags=THINK, begun="\n", is_cut=True)
    assert (found.thinking, found.text, len(found.warnings)) == ("Hm. ", '<tool_call>\n{"name": "ad', 1)


@pytest.mark.req("GEN-14")
def test_thinking_that_was_cut_ends_where_the_parser_is_told() -> None:
    parser = OutputParser(THINK, "\n")
    assert parser.feed("Hm</th") == [Delta(thinking="Hm")] and parser.is_thinking
    assert parser.end_thinking() == [Delta(thinking="</th")]
    assert not parser.is_thinking and not parser.has_answered
    assert parser.feed("\n\nHi") == [Delta("Hi")] and parser.has_answered


@pytest.mark.req("TOOL-05")
def test_a_bare_call_follows_the_thinking() -> None:
    for size in SIZES:
        found = parse('<think>Hm</think>\n{"name": "add", "arguments": {"a": 1}}', BARE, size=size, tags=THINK)
        assert (found.thinking, found.text, found.calls) == ("Hm", "", [("add", '{"a": 1}')])


TYPED = Tool(
    "set",
    {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "i": {"type": "integer"},
            "b": {"type": ["boolean", "null"]},
            "l": {"$ref": "#/$defs/list"},
            "o": {"anyOf": [{"type": "object"}, {"type": "string"}]},
            "e": {"enum": [1, "x"]},
        },
        "$defs": {"list": {"type": "array"}},
    },
    {},
)


@pytest.mark.req("TOOL-03")
@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("s", "12", '"12"'),
        ("s", "\n\na\nb \n\n", '"\\na\\nb \\n"'),
        ("s", "null", '"null"'),
        ("s", 'a "q" <b> {x}', '"a \\"q\\" <b> {x}"'),
        ("s", "", '""'),
        ("i", "\n12\n", "12"),
        ("i", "12345678901234567890", "12345678901234567890"),
        ("i", "twelve", '"twelve"'),
        ("b", "True", "true"),
        ("b", "None", "null"),
        ("l", '[1, "a"]', '[1, "a"]'),
        ("l", "[1,", '"[1,"'),
        ("o", '{"k": 1}', '{"k": 1}'),
        ("o", "text", '"text"'),
        ("e", "1", "1"),
        ("e", "x", '"x"'),
        ("unknown", "5", '"5"'),
    ],
)
def test_a_tagged_value_is_typed_by_the_schema(key: str, written: str, value: str) -> None:
    text = f"<tool_call>\n<function=set>\n<parameter={key}>{written}</parameter>\n</function>\n</tool_call>"
    for size in SIZES:
        found = parse(text, QWEN_CODER, size=size, tools=(TYPED,))
        assert found.calls == [("set", f'{{"{key}": {value}}}')]


@pytest.mark.req("TOOL-04")
def test_a_tagged_text_streams() -> None:
    pieces = ["<function=set>\n<parameter=s>\n", "one ", "two\n", "</para", "meter></function>"]
    found = parse(pieces, QWEN_CODER, tools=(TYPED,))
    told = [event.text for event in found.events if isinstance(event, ToolCallArguments)]
    assert told == ['{"s": "', "one ", "two", '"', "}"] or "".join(told) == '{"s": "one two"}'
    assert len(told) > 2


@pytest.mark.req("TOOL-03")
@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", "{}"),
        ("a=1, b=-2.5e3", '{"a": 1, "b": -2.5e3}'),
        ("note='it\\'s \"so\"\\n'", '{"note": "it\'s \\"so\\"\\n"}'),
        ('note="tab\\there \\u00e9"', '{"note": "tab\\there \\u00e9"}'),
        ("deep={'x': [True, False, None], \"y\": (1, 2)}", '{"deep": {"x": [true, false, null], "y": [1, 2]}}'),
        ("note='), now('", '{"note": "), now("}'),
    ],
)
def test_python_becomes_json(arguments: str, value: str) -> None:
    for size in SIZES:
        found = parse(f"<|tool_call_start|>[add({arguments}), now()]<|tool_call_end|>ok", LFM, size=size)
        assert found.calls == [("add", value), ("now", "{}")]
        assert json.loads(found.calls[0][1]) is not None and found.text == "ok"


@pytest.mark.req("TOOL-05")
@pytest.mark.parametrize(
    "body", ["add(1)", "add(a=b)", "add(a=1", "add(a=" + "[" * 100, "add a=1", "(a=1)", "add(a=lambda: 1)"]
)
def test_python_that_is_no_call_is_text(body: str) -> None:
    text = f"<|tool_call_start|>[{body}"
    for size in SIZES:
        found = parse(text, LFM, size=size)
        assert (found.text, found.calls) == (text, [])


@pytest.mark.req("TOOL-01")
def test_names_with_spaces_dots_and_signs_are_found() -> None:
    for name in ("a b.c", "add two/números 😀", 'q"uote', "back\\slash"):
        tool = Tool(name, {}, {})
        text = f"<tool_call>{json.dumps({'name': name, 'arguments': {}})}</tool_call>"
        assert parse(text, HERMES, size=1, tools=(tool,)).calls == [(name, "{}")]


@pytest.mark.req("CHAT-13")
def test_no_log_probability_is_lost_and_their_order_is_kept() -> None:
    text = f"<think>Hm</think>Hi {ADDING} bye <tool_call> x {ADDING}"
    parser = OutputParser(THINK, None, HERMES, TOOLS)
    events, sent = [], []
    for start in range(0, len(text), 4):
        piece = text[start : start + 4]
        sent.append(Logprob(piece, -1.0, list(piece.encode())))
        events += parser.feed(piece, [sent[-1]])
    events += parser.feed("", [Logprob("", -2.0, [])])
    events += parser.finish()
    assert Folded(events, []).logprobs == [*sent, Logprob("", -2.0, [])]
    assert Folded(events, []).text == "Hibye <tool_call> x"


ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|>"
COMMENTARY = "<|start|>assistant<|channel|>commentary"
FINAL = "<|start|>assistant<|channel|>final<|message|>"
CHANNEL_CALL = ' to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>'


@pytest.mark.req("TOOL-08")
@pytest.mark.parametrize(
    ("text", "thinking", "content", "calls"),
    [
        (f"{ANALYSIS}{COMMENTARY}{CHANNEL_CALL}", "Hm.", "", 1),
        (f"{ANALYSIS}<|start|>assistant{CHANNEL_CALL}", "Hm.", "", 1),
        (f"{ANALYSIS}{COMMENTARY}<|message|>I add.<|end|>{COMMENTARY}{CHANNEL_CALL}", "Hm.", "I add.", 1),
        (f"{ANALYSIS}{FINAL}Hello", "Hm.", "Hello", 0),
        (f"<|channel|>commentary{CHANNEL_CALL}", "", "", 1),
        ('<|channel|>commentary to=functions.add<|channel|>commentary json<|message|>{"a": 1}', "", "", 1),
        ("<|channel|>final<|message|>Hello", "", "Hello", 0),
    ],
)
def test_channels_are_thinking_text_and_calls(text: str, thinking: str, content: str, calls: int) -> None:
    family = FAMILIES["harmony"]
    for size in SIZES:
        found = parse(text, family.format, size=size, tags=family.tags)
        assert (found.thinking, found.text, len(found.calls)) == (thinking, content, calls)
