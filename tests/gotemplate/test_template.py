import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from serow.errors import TemplateError
from serow.gotemplate import Slice, Struct, parse

GOLDEN = Path(__file__).parents[1] / "golden" / "exchanges.jsonl"
QUIRKS = {
    "template-go-10": "<b<c>>",  # the peer forgets definitions
    "template-go-12": "Bb<c>",
    "template-go-14": "10|10",  # and its own functions
    "template-go-29": "b<c>",  # and does not see Messages in parentheses
}
DATA: dict[str, Any] = {
    "Text": "héllo",
    "Three": 3,
    "Half": 0.5,
    "Yes": True,
    "Nil": None,
    "List": ["x", "y"],
    "Map": {"b": 1, "a": {"c": None}},
    "Person": Struct({"Name": "Ann", "Age": 7}, "api.Person"),
    "NilSlice": Slice(),
    "Tools": Slice(type_name="api.Tools", prints_json=True),
}


def message(role: str, content: str) -> Struct:
    fields = {"Thinking": "", "Images": Slice(), "ToolCalls": Slice(), "ToolName": "", "ToolCallID": ""}
    return Struct({"Role": role, "Content": content, **fields}, "template.Message")


def golden_cases() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    exchanges = map(json.loads, GOLDEN.read_text(encoding="utf-8").splitlines())
    return [(e["id"], e["body"], e["response"]["json"]) for e in exchanges if e["id"].startswith("template-go-")]


def golden_data(body: dict[str, Any]) -> dict[str, Any]:
    system = body.get("system", "")
    data = {"System": system, "Response": "", "Think": False, "ThinkLevel": "", "IsThinkSet": "think" in body}
    if ".Messages" not in body["template"]:
        return {**data, "Prompt": body["prompt"]}
    messages = [message("system", system)] if system else []
    return {**data, "Messages": [*messages, message("user", body["prompt"])], "Tools": DATA["Tools"]}


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(("case", "body", "answer"), golden_cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_renders_what_the_peer_renders(case: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
    try:
        text = parse(body["template"]).render(golden_data(body), stop_at="Response")
    except TemplateError as error:
        assert str(error) == answer["error"]
    else:
        assert text == QUIRKS.get(case) or text == answer["_debug_info"]["rendered_template"]


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {{- 1 -}} \n b", "a1b"),
        ("a{{/* {{ }} */}}b", "ab"),
        ("{{ .Nope }}|{{ .Nil }}|{{ .Map.a.c }}", "<no value>|<no value>|<no value>"),
        ("{{ .Three }} {{ .Half }} {{ .Yes }} {{ .List }} {{ .Map }}", "3 0.5 true [x y] map[a:map[c:<nil>] b:1]"),
        ("{{ .Person }} {{ .Person.Name }} {{ json .Person }}", '{Ann 7} Ann {"Name":"Ann","Age":7}'),
        ("{{ .Tools }} {{ .NilSlice }} {{ json .NilSlice }} {{ len .NilSlice }}", "null [] null 0"),
        ("{{ if .Nil }}a{{ else if .List }}b{{ else }}c{{ end }}", "b"),
        ("{{ if .NilSlice }}a{{ end }}{{ if .Person }}b{{ end }}{{ if not 0.0 }}c{{ end }}", "bc"),
        ("{{ with .Nil }}a{{ else with .Three }}{{ . }}{{ else }}c{{ end }}", "3"),
        ("{{ range .List }}{{ . }},{{ else }}none{{ end }}", "x,y,"),
        ("{{ range $i, $e := .List }}{{ $i }}{{ $e }}{{ end }}", "0x1y"),
        ("{{ range $k, $v := .Map }}{{ $k }}={{ $v }};{{ end }}", "a=map[c:<nil>];b=1;"),
        ("{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}{{ range 0 }}{{ else }}none{{ end }}", "01201none"),
        ("{{ range .Nil }}a{{ else }}none{{ end }}", "none"),
        ("{{ range 9 }}{{ if eq . 1 }}{{ continue }}{{ else if eq . 4 }}{{ break }}{{ end }}{{ . }}{{ end }}", "023"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}", "2"),
        ("{{ $e := 0 }}{{ range $e = .List }}{{ end }}{{ $e }}", "y"),
        ('{{ define "t" }}<{{ . }}{{ $ }}>{{ end }}{{ template "t" .Three }}{{ template "t" }}', "<33><<no value><no value>>"),
        ('{{ block "b" .Map }}{{ .b }}{{ end }}', "1"),
        ('{{ define "t" }}{{ if . }}{{ . }}{{ template "t" (slice . 1) }}{{ end }}{{ end }}{{ template "t" "abc" }}', "abcbcc"),
        ("{{ (index .List 1) }} {{ (.Map).b }} {{ .Map.a | json }}", 'y 1 {"c":null}'),
        ('{{ .Text | printf "%s-%s" "a" | len }}', "8"),
        (
            "{{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 017 }} {{ 1_000 }} {{ 1e3 }} {{ .5 }} {{ 'a' }} {{ 1i }}",
            "31 3 15 15 1000 1000 0.5 97 (0+1i)",
        ),
        (r'{{ "\"\t\x41\101\u00e9\U0001F600" }}{{ `\n` }}', '"\tAAé😀\\n'),
        ("{{ 1.5+2i }} {{ 0x1p4 }} {{ 0X_1F }} {{ +7 }} {{ -0x10 }} {{ '\\377' }}", "(1.5+2i) 16 31 7 -16 255"),
        ("{{ $x := .Nope }}{{ $x.y }} {{ print (.Map).b }} {{ .NilSlice | eq nil }}", "<no value> 1 true"),
        ("{{ eq .NilSlice .List }}", "false"),
        (r'{{ "\xff" }}{{ slice .Text 1 2 }}{{ print (slice .Text 1 2) (slice .Text 2 3) }}', "\ufffd\ufffdé"),
    ],
)
def test_renders_as_go_does(template: str, text: str) -> None:
    assert parse(template).render(DATA) == text


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ .a", ":1: unclosed action"),
        ("{{ if 1 }}\n\n", ":3: unexpected EOF"),
        ("\n{{ printf\n", ":3: unclosed action started at :2"),
        ("{{ /* }}", ':1: unexpected "/" in command'),
        ("{{/* }}", ":1: unclosed comment"),
        ("{{/* */ x}}", ":1: comment ends before closing delimiter"),
        ("{{ (1 }}", ":1: unclosed left paren"),
        ("{{ 1) }}", ":1: unexpected right paren"),
        ("{{ $x }}", ':1: undefined variable "$x"'),
        ("{{ upper 1 }}", ':1: function "upper" not defined'),
        ('{{ "a }}', ":1: unterminated quoted string"),
        ("{{ 1a }}", ':1: bad number syntax: "1a"'),
        ("{{ 089 }}", ':1: integer overflow: "089"'),
        ("{{ .a+1 }}", ":1: bad character U+002B '+'"),
        ("{{ \x01 }}", ":1: unrecognized character in action: U+0001"),
        ("{{ 1 | 2 }}", ":1: non executable command in pipeline stage 2"),
        ("{{ range $a, $b, $c := . }}{{ end }}", ":1: too many declarations in range"),
        ("{{ range }}{{ end }}", ":1: missing value for range"),
        ("{{ else }}", ":1: unexpected {{else}}"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", ":1: expected end; found {{else}}"),
        ("{{ continue }}", ":1: {{continue}} outside {{range}}"),
        ("{{ template 1 }}", ':1: unexpected "1" in template clause'),
        ('{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}', ':1: template: multiple definition of template "a"'),
        ('{{ "\\q" }}', ":1: invalid syntax"),
        ("{{ 1.a }}", ':1: bad number syntax: "1.a"'),
        ("{{ true.a }}", ':1: unexpected . after term "true"'),
        ("{{ 1e999 }}", ':1: illegal number syntax: "1e999"'),
        ("{{ 0x.1 }}", ':1: illegal number syntax: "0x.1"'),
        ("{{ 'ab' }}", ":1: malformed character constant: 'ab'"),
        ("{{ 1 : 1 }}", ":1: expected :="),
        ("{{ if 1 else }}", ":1: unexpected <else> in operand"),
        ("{{ end x }}", ':1: unexpected "x" in end'),
        ('{{ define "a" }}{{ else }}{{ end }}', ":1: unexpected {{else}} in define clause"),
        ("{{ range $a, 1 }}{{ end }}", ":1: range can only initialize variables"),
        ("{{ 1 || 2 }}", ':1: unexpected "|" in command'),
    ],
)
def test_what_does_not_parse_is_refused_in_gos_words(template: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template)
    assert str(caught.value) == f"template: {error}"


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "error"),
    [
        (
            "é{{ with .Person }}{{ .Nope }}{{ end }}",
            ':1:23: executing "" at <.Nope>: can\'t evaluate field Nope in type api.Person',
        ),
        ("\n{{ .Text.Nope }}", ':2:8: executing "" at <.Text.Nope>: can\'t evaluate field Nope in type interface {}'),
        ("{{ .Nil.x }}", ':1:7: executing "" at <.Nil.x>: nil pointer evaluating interface {}.x'),
        ("{{ nil }}", ':1:3: executing "" at <nil>: nil is not a command'),
        ("{{ .Map 1 }}", ':1:3: executing "" at <.Map>: Map is not a method but has arguments'),
        ("{{ 1 2 }}", ':1:3: executing "" at <1>: can\'t give argument to non-function 1'),
        ("{{ range .Half }}{{ end }}", ':1:9: executing "" at <.Half>: range can\'t iterate over 0.5'),
        ("{{ lt 1 }}", ':1:3: executing "" at <lt>: wrong number of args for lt: want 2 got 1'),
        ("{{ printf 1 }}", ':1:10: executing "" at <1>: expected string; found 1'),
        (
            "{{ eq 1 .Half }}",
            ':1:3: executing "" at <eq 1 .Half>: error calling eq: incompatible types for comparison: int and float64',
        ),
        ('{{ template "x" }}', ':1:12: executing "" at <{{template "x"}}>: template "x" not defined'),
        (
            '{{ define "t" }}{{ len 1 }}{{ end }}{{ template "t" }}',
            ':1:19: executing "t" at <len 1>: error calling len: len of type int',
        ),
        ("{{ .Person.Name 1 }}", ':1:10: executing "" at <.Person.Name>: Name has arguments but cannot be invoked as function'),
        ("{{ range $i, $n := 3 }}{{ end }}", ':1:19: executing "" at <3>: can\'t use 3 to iterate over more than one variable'),
        ('{{ printf (index .Map "z") }}', ':1:22: executing "" at <"z">: invalid value; expected string'),
        ("{{ $x = 1 }}", ':1:8: executing "" at <1>: undefined variable: $x'),
        ("{{ 0xFFFFFFFFFFFFFFFF }}", ':1:3: executing "" at <0xFFFFFFFFFFFFFFFF>: 0xFFFFFFFFFFFFFFFF overflows int'),
    ],
)
def test_what_fails_while_it_runs_says_where(template: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template).render(DATA)
    assert str(caught.value) == f"template: {error}"


CHAT = """{{- $last_user := -1 }}
{{- range $i, $m := .Messages }}{{ if eq $m.Role "user" }}{{ $last_user = $i }}{{ end }}{{ end }}
{{- with .System }}<|system|>{{ . }}
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $is_last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" "tool" }}<|user|>{{ .Content }}{{ if and $.IsThinkSet (eq $i $last_user) }} /no_think{{ end }}
{{ else if eq .Role "assistant" }}<|assistant|>{{ or .Content "(called tools)" }}
{{- range .ToolCalls }}{{ .Function.Name }}{{ end }}
{{ end }}
{{- if and $is_last (ne .Role "assistant") }}<|assistant|>{{ end }}
{{- end }}"""


@pytest.mark.req("GEN-08")
def test_a_chat_template_as_models_ship_it_renders() -> None:
    messages = [message("user", "a"), message("assistant", ""), message("tool", "b"), message("user", "c")]
    text = parse(CHAT).render({"System": "S", "Messages": messages, "IsThinkSet": True}, stop_at="Response")
    turns = ["<|system|>S", "<|user|>a", "<|assistant|>(called tools)", "<|user|>b", "<|user|>c /no_think", "<|assistant|>"]
    assert text == "\n".join(turns)


def test_dates_are_those_of_today_and_yesterday() -> None:
    today = date.today()
    text = parse("{{ yesterdayDate }} {{ currentDate }}").render({})
    assert text in {f"{day - timedelta(days=1)} {day}" for day in (today, today + timedelta(days=1))}


def test_errors_stay_short_however_long_the_template_is() -> None:
    with pytest.raises(TemplateError) as caught:
        parse("{{ range .Text }}" + "x" * 100_000 + "{{ end }}").render({"Text": "y" * 100_000})
    assert len(str(caught.value)) < 1000
