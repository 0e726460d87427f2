from dataclasses import replace
from pathlib import Path

import pytest

from serow.store.capabilities import capabilities
from serow.store.model import Capability
from serow.store.weights import Weights, describe, human_count


@pytest.fixture(scope="module")
def weights(zoo: Path) -> Weights:
    return describe(zoo / "zoo-vision.gguf")


@pytest.mark.parametrize(
    ("chat_template", "found"),
    [
        ("", ["completion"]),
        ("{{ messages }}", ["completion"]),
        ("{% if tools %}", ["tools", "completion"]),
        ("{{ '<think>' }}", ["thinking", "completion"]),
        ("{% if enable_thinking %}", ["thinking", "completion"]),
        ("{{ content.split('</think>')[-1] }}", ["thinking", "completion"]),
        ("{% for t in tools %}{% endfor %}[THINK]", ["tools", "thinking", "completion"]),
    ],
)
def test_a_jinja_template_tells_what_the_model_can(weights: Weights, chat_template: str, found: list[Capability]) -> None:
    assert list(capabilities(replace(weights, chat_template=chat_template), has_projector=False, template="")) == found


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ .Prompt }}", ["completion"]),
        ("{{- if .Suffix }}{{ end }}", ["completion", "insert"]),
        ("{{ range .Tools }}{{ end }}", ["completion", "tools"]),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", ["completion", "thinking"]),
        ("{{ if and $.IsThinkSet\n(not $.Think) }}{{ end }}", ["completion", "thinking"]),
        ("We say .Suffix and .Tools outside of actions", ["completion"]),
        ("{{ .Toolset }}", ["completion"]),
    ],
)
def test_a_go_template_tells_what_the_model_can(weights: Weights, template: str, found: list[Capability]) -> None:
    assert list(capabilities(weights, has_projector=False, template=template)) == found


@pytest.mark.parametrize(
    ("parser", "found"),
    [
        ("qwen3-coder", ("completion", "tools")),
        ("gemma4", ("completion", "tools", "thinking")),
        ("passthrough", ("completion",)),
        ("nobody-knows", ("completion",)),
    ],
)
def test_a_parser_of_the_peer_tells_what_the_model_writes(weights: Weights, parser: str, found: tuple[Capability, ...]) -> None:
    bare = replace(weights, chat_template="")
    assert capabilities(bare, has_projector=False, template="", parser=parser) == found


def test_a_projector_gives_sight_and_pooling_takes_completion(weights: Weights) -> None:
    assert capabilities(weights, has_projector=True, template="") == ("completion", "vision")
    assert capabilities(replace(weights, has_pooling=True), has_projector=False, template="") == ("embedding",)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (134515008, "134.52M"),
        (1083008, "1.08M"),
        (268098176, "268.10M"),
        (630167424, "630.17M"),
        (7_615_616_512, "7.6B"),
        (7_000_000_000, "7B"),
        (2_000_000, "2M"),
        (715_776, "716K"),
        (999, "999"),
    ],
)
def test_a_count_is_printed_as_the_peer_prints_it(count: int, text: str) -> None:
    assert human_count(count) == text
