"""What templates see of tools and calls: values that print as JSON, and toTypeScriptType (CHAT-07)."""

import pytest

from serow.gotemplate import JsonMap, Slice, Struct, parse


def prop(*types: str, any_of: tuple[Struct, ...] = ()) -> Struct:
    found = types[0] if len(types) == 1 else Slice(types) if types else ""
    return Struct({"AnyOf": Slice(any_of or None), "Type": found, "Enum": Slice()})


@pytest.mark.req("CHAT-07")
def test_a_map_of_arguments_prints_as_json_with_sorted_keys_and_escapes_as_go_does() -> None:
    arguments = JsonMap({"s": "日本 <b>&", "f": 1000.0, "o": {"z": 1, "a": [1, None]}})
    expected = '{"f":1000,"o":{"a":[1,null],"z":1},"s":"日本 \\u003cb\\u003e\\u0026"}'
    assert parse("{{ .A }}|{{ json .A }}|{{ range $k, $v := .A }}{{ $k }}={{ $v }};{{ end }}").render({"A": arguments}) == (
        f"{expected}|{expected}|f=1000;o=map[a:[1 <nil>] z:1];s=日本 <b>&;"
    )


@pytest.mark.req("CHAT-07", "TOOL-02")
def test_a_tool_prints_as_the_json_that_the_client_sent() -> None:
    tool = Struct({"Type": "function"}, json={"z": {"b": 1, "a": [{"y": 2, "x": "<"}]}})
    expected = '{"z":{"b":1,"a":[{"y":2,"x":"\\u003c"}]}}'
    tools = Slice((tool,), prints_json=True)
    assert parse("{{ range .T }}{{ .Type }} {{ . }}{{ end }}|{{ .T }}|{{ json .T }}").render({"T": tools}) == (
        f"function {expected}|[{expected}]|[{expected}]"
    )


@pytest.mark.req("CHAT-07")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (prop("string"), "string"),
        (prop("integer"), "number"),
        (prop("array"), "any[]"),
        (prop("object"), "Record<string, any>"),
        (prop("string", "null"), "string | null"),
        (prop(), "any"),
        (prop("odd"), "any"),
        (prop(any_of=(prop("integer"), prop("string"))), "number | string"),
        ("text", "any"),
    ],
)
def test_a_property_has_a_type_in_typescript(value: object, expected: str) -> None:
    assert parse("{{ toTypeScriptType .P }}").render({"P": value}) == expected
