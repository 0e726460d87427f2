import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import InvalidModelName
from serow.store.name import Name


@pytest.mark.req("GEN-02")
@pytest.mark.parametrize(
    ("text", "whole", "shortest"),
    [
        ("smollm2:135m", "registry.ollama.ai/library/smollm2:135m", "smollm2:135m"),
        ("smollm2", "registry.ollama.ai/library/smollm2:latest", "smollm2:latest"),
        ("me/smollm2", "registry.ollama.ai/me/smollm2:latest", "me/smollm2:latest"),
        ("host:5000/me/m:t", "host:5000/me/m:t", "host:5000/me/m:t"),
        ("registry.ollama.ai/library/m", "registry.ollama.ai/library/m:latest", "m:latest"),
        ("Registry.Ollama.AI/Library/M", "Registry.Ollama.AI/Library/M:latest", "M:latest"),
        ("http://x/y/z", "x/y/z:latest", "x/y/z:latest"),
        (" smollm2:135m\n", "registry.ollama.ai/library/smollm2:135m", "smollm2:135m"),
        ("_a.b-c:1.5-q4_K_M", "registry.ollama.ai/library/_a.b-c:1.5-q4_K_M", "_a.b-c:1.5-q4_K_M"),
    ],
)
def test_a_name_is_completed_by_the_defaults(text: str, whole: str, shortest: str) -> None:
    name = Name.parse(text)
    assert str(name) == whole
    assert name.display_shortest == shortest


@pytest.mark.req("GEN-02")
@pytest.mark.parametrize(
    "text",
    (
        *("", "a b", "../etc/passwd", "..", "x:y:z", "smollm2:", ":135m", "a@sha256:abc", "ü", "a" * 81, "m:" + "t" * 81),
        *("/m", "m/", "a//m", "n.s/m", "a/b/c/d", "-m", ".m", "m\0", "h" * 351 + "/n/m", "http:///n/m", "a\\b", "m\nx"),
    ),
)
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidModelName, match=r"^invalid model name$"):
        Name.parse(text)


def test_parts_may_be_as_long_as_the_grammar_says() -> None:
    name = Name.parse(f"{'h' * 255}/{'n' * 80}/{'m' * 80}:{'t' * 80}")
    assert [len(part) for part in name.parts] == [255, 80, 80, 80]


@pytest.mark.req("GEN-02")
def test_names_compare_without_regard_to_case() -> None:
    assert Name.parse("SmolLM2:135M") == Name.parse("smollm2:135m")
    assert len({Name.parse("A"), Name.parse("a"), Name.parse("b")}) == 2
    assert Name.parse("a") != "a"


@given(st.text(max_size=60) | st.text(alphabet="aB1_.-:/\\ ", max_size=40))
def test_a_name_that_parses_is_a_path_of_four_plain_parts(text: str) -> None:
    try:
        name = Name.parse(text)
    except InvalidModelName:
        return
    assert len(name.path.parts) == 4
    assert not {"..", ".", ""} & set(name.path.parts)
    assert Name.parse(str(name)) == name


@pytest.mark.req("GEN-02")
@pytest.mark.parametrize("text", [" " * 2000 + "a", "a" * 2000, "h" * 256 + "/a/b"])
def test_a_text_longer_than_any_name_is_none(text: str) -> None:
    with pytest.raises(InvalidModelName):
        Name.parse(text)
