"""No template keeps the server busy or fills its memory, whatever it is."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serow.errors import TemplateError
from serow.gotemplate import parse
from serow.gotemplate.budget import MAX_DEPTH, MAX_SOURCE, MAX_TOKENS
from tests.gotemplate.generator import DATA, Generator

LIMIT = 3.0  # seconds of the processor; without a debugger or a tracer each takes less than half of one
HUGE = {"Text": '<é\x01\U0001f600"' * 500_000, "List": list(range(200_000)), "Map": {str(n): n for n in range(100_000)}}
CHAIN = "".join(f'{{{{define "{n}"}}}}{{{{template "{n + 1}"}}}}{{{{template "{n + 1}"}}}}{{{{end}}}}' for n in range(30))


def fails_fast(template: str) -> str:
    started = time.process_time()
    with pytest.raises(TemplateError) as caught:
        parse(template).render(HUGE)
    assert time.process_time() - started < LIMIT
    return str(caught.value)


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    "template",
    [
        "{{ range 1000000000 }}{{ end }}",
        "{{ range 10000 }}{{ range 10000 }}{{ . }}{{ end }}{{ end }}",
        '{{ $x := "aaaa" }}{{ range 1000 }}{{ $x = print $x $x }}{{ end }}',
        f'{CHAIN}{{{{define "30"}}}}x{{{{end}}}}{{{{template "0"}}}}',
        '{{ range 9 }}{{ $x := printf "%1000000d%1000000s%.1000000f" 1 "" 1.5 }}{{ $x = print $x $x $x $x }}{{ end }}',
        "{{ range 1000 }}{{ $x := printf `" + "%#+2.3e " * 10_000 + "` 1.5 1.5 }}{{ end }}",
        "{{ range .List }}{{ $x := print $.List }}{{ end }}",
        "{{ range .List }}{{ $x := slice $.List 1 }}{{ end }}",
        "{{ range .List }}{{ range $.Map }}{{ break }}{{ end }}{{ end }}",
        *(
            f"{{{{ range .List }}}}{{{{ $x := {call} $.Text }}}}{{{{ end }}}}"
            for call in ("html", "js", "urlquery", "json", "len")
        ),
        *(
            f"{{{{ range .List }}}}{{{{ $x := printf `{verb}` $.Text }}}}{{{{ end }}}}"
            for verb in ("%q", "%+q", "%#q", "%# x", "%s")
        ),
        *(
            f"{{{{ range .List }}}}{{{{ $x := {call} }}}}{{{{ end }}}}"
            for call in ("index $.Text 1", "slice $.Text 1", "lt $.Text $.Text")
        ),
    ],
)
def test_a_template_that_works_for_ever_is_stopped(template: str) -> None:
    assert fails_fast(template) == "template: took too many steps"


@pytest.mark.req("GEN-08")
def test_a_text_that_grows_for_ever_is_stopped() -> None:
    assert fails_fast("{{ range .List }}{{ $.Text }}{{ end }}") == "template: made a text larger than 16777216 characters"


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("x" * (MAX_SOURCE + 1), "template: longer than 1048576 characters"),
        ("{{.}}" * MAX_TOKENS, "template: more than 20000 words and signs"),
        ("{{" + "(" * 9000 + ")" * 9000 + "}}", "template: :1: max expression depth exceeded"),
        ("{{if 1}}" * 9000, "template: :1: max nesting depth exceeded"),
        ("{{if 0}}" + "{{else if 0}}" * 4000 + "{{end}}", "template: :1: max nesting depth exceeded"),
        ('{{define "a"}}{{template "a"}}{{end}}{{template "a"}}', "exceeded maximum template depth (64)"),
        ("{{ " + "1" * 900_000 + " }}", "illegal number syntax"),
        ('{{ "' + "\\\\" * 400_000 + '" }}{{ end }}', "unexpected {{end}}"),
        ('{{ "' + "\\x41" * 200_000 + '" }}{{ end }}', "unexpected {{end}}"),
        ("{{ " + "-" * 900_000 + " }}", "bad number syntax"),
        ("{{/*" * 200_000, "unclosed comment"),
    ],
)
def test_a_template_that_is_too_large_or_too_deep_is_refused(template: str, error: str) -> None:
    assert error in fails_fast(template)


def test_data_nested_too_deep_is_not_printed() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    for template in ("{{ .Nested }}", "{{ json .Nested }}"):
        with pytest.raises(TemplateError, match="nested too deep"):
            parse(template).render({"Nested": nested})


def test_nesting_up_to_the_bound_works() -> None:
    depth = MAX_DEPTH - 3
    assert parse("{{" + "(print " * depth + "1" + ")" * depth + "}}").render({}) == "1"
    assert parse("{{if 1}}" * depth + "x" + "{{end}}" * depth).render({}) == "x"


def test_a_template_can_be_rendered_again() -> None:
    template = parse("{{ $x := .a }}{{ range 9000 }}{{ $x = . }}{{ end }}{{ $x }}")
    assert [template.render({"a": 1}) for _ in range(9)] == ["8999"] * 9


PIECES = [
    "{{",
    "}}",
    "{{- ",
    " -}}",
    "{{/*",
    "*/}}",
    "$",
    "$x",
    ".",
    ".A",
    " ",
    "|",
    ":=",
    "=",
    ",",
    "(",
    ")",
    '"',
    "`",
    "'",
    "\\",
    "1",
]
WORDS = [
    "if ",
    "else",
    "end",
    "range ",
    "with ",
    "define ",
    "block ",
    "template ",
    "break",
    "nil",
    "printf ",
    "index ",
    "0x",
    "e5",
    "1i",
]


@pytest.mark.req("GEN-08")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES + WORDS) | st.text(max_size=3), max_size=40).map("".join))
@example("{{ \ud800 }}")
@example('{{ "\udc80\ud800" | printf "%q%x" }}')
def test_whatever_is_no_template_is_refused_with_a_template_error(text: str) -> None:
    try:
        parse(text).render(DATA)
    except TemplateError as error:
        assert str(error).startswith("template: ")


@pytest.mark.req("GEN-08")
@settings(deadline=None)
@given(
    st.integers(), st.dictionaries(st.sampled_from(list(DATA)), st.text() | st.floats() | st.lists(st.none() | st.booleans()))
)
def test_valid_templates_render_or_fail_with_a_template_error_whatever_the_data(seed: int, changes: dict[str, object]) -> None:
    try:
        text = parse(Generator(seed).template()).render({**DATA, **changes})
    except TemplateError as error:
        assert str(error).startswith("template: ")
    else:
        text.encode()
