import pytest

from serow.gotemplate import parse, thinking_tags

THINKING = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ end }}"
    "{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    "{{ if and $.IsThinkSet (not $.Think) }}<think>\n\n</think>\n\n{{ end }}"
)


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("{{ .System }}{{ if .Prompt }}x{{ end }}", {"System", "Prompt"}),
        ("{{ range $i, $m := .Messages }}{{ $m.Role }}{{ .Content }}{{ end }}", {"Messages", "Role", "Content"}),
        ("{{ (index .Messages 0).Content }}", {"Messages", "Content"}),
        ('{{ define "t" }}{{ .Suffix }}{{ end }}{{ template "t" $.Tools }}', {"Suffix", "Tools"}),
        ("plain {{/* .System */}}{{ $x := 1 }}{{ $x }}", set()),
    ],
)
def test_fields_are_found_wherever_they_are_mentioned(template: str, fields: set[str]) -> None:
    parsed = parse(template)
    assert parsed.fields() == fields
    assert all(parsed.uses(name) for name in fields) and not parsed.uses("Nope")


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .Prompt }}{{ .Response }} tail", "PR"),
        ("{{ .Prompt }} tail", "P tail"),
        ("{{ if .Response }}{{ .Response }}<end>{{ end }} tail", "R"),
        ("{{ if .Prompt }}a{{ .Response }}b{{ else }}c{{ end }}d", "aR"),
        ("{{ if .Nope }}a{{ .Response }}b{{ else }}c{{ .Response }}d{{ end }}e", "cR"),
        ("{{ if .Nope }}a{{ .Response }}b{{ end }}c", ""),
        ("{{ range 2 }}{{ . }}{{ with $ }}{{ .Response }} tail{{ end }}{{ end }}", "0R1R"),
        ('{{ printf "%s!" .Response }} tail', "R!"),
        ("{{ $.Response }} tail", "R tail"),
    ],
)
def test_rendering_stops_behind_the_field_it_is_told_to_stop_at(template: str, text: str) -> None:
    assert parse(template).render({"Prompt": "P", "Response": "R"}, stop_at="Response") == text


@pytest.mark.req("GEN-08", "GEN-14")
@pytest.mark.parametrize(
    ("template", "tags"),
    [
        (THINKING, ("<think>", "</think>")),
        ("{{ range $m := .Messages }}assistant\n<t>{{ $m.Thinking }}</t>\n{{ .Content }}{{ end }}", ("<t>", "</t>")),
        ("{{ range .Messages }}{{ if .Thinking }}x{{ end }}{{ .Content }}{{ end }}", None),
        ("<a>{{ .Thinking }}</a>", None),
        ("{{ range .Tools }}<a>{{ .Thinking }}</a>{{ end }}", None),
        ("{{ range .Messages }}<a>{{ .Thinking }}{{ end }}", None),
        ("{{ .Prompt }}", None),
    ],
)
def test_thinking_tags_are_the_texts_around_the_thinking_of_a_message(template: str, tags: tuple[str, str] | None) -> None:
    assert thinking_tags(parse(template)) == tags
