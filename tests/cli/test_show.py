"""Sections of `serow show`."""

from typing import Any

from serow.cli.show import describe

INFO: dict[str, Any] = {
    "details": {"family": "llama", "parameter_size": "134.52M", "quantization_level": "Q4_1"},
    "model_info": {
        "general.architecture": "llama",
        "llama.context_length": 8192,
        "tokenizer.ggml.tokens": ["a", "b", "c", "d", "e"],
    },
    "capabilities": ["completion", "vision"],
    "projector_info": {"general.architecture": "clip", "clip.vision.projection_dim": 64},
    "parameters": 'stop                           "<|im_end|>"\ntemperature                    0.5',
    "system": "one\n\ntwo\nthree",
    "license": "MIT",
    "tensors": [{"name": "output.weight", "type": "F16", "shape": [64, 512]}],
}


def test_a_model_is_shown_as_the_peer_shows_it() -> None:
    assert describe(INFO) == (
        "  Model\n"
        "    architecture      llama\n"
        "    parameters        134.52M\n"
        "    context length    8192\n"
        "    quantization      Q4_1\n\n"
        "  Capabilities\n    completion\n    vision\n\n"
        "  Projector\n    architecture    clip\n    dimensions      64\n\n"
        '  Parameters\n    stop           "<|im_end|>"\n    temperature    0.5\n\n'
        "  System\n    one\n    two\n    ...\n\n"
        "  License\n    MIT\n"
    )


def test_the_version_that_a_model_asks_for_is_shown() -> None:
    assert describe({"requires": "0.14.0"}) == "  Model\n    requires    0.14.0\n"


def test_verbose_adds_metadata_and_tensors() -> None:
    text = describe(INFO, verbose=True)
    assert "    tokenizer.ggml.tokens    [a b c d ...+1 more]\n" in text
    assert "  Tensors\n    output.weight    F16    [64, 512]\n" in text


def test_a_model_of_which_nothing_is_known_is_no_failure() -> None:
    assert describe({}) == ""


def test_what_pictures_are_drawn_with_is_shown_with_who_says_so() -> None:
    found = describe(
        {"picture_defaults": {"steps": {"value": 4, "source": "Modelfile"}, "width": {"value": None, "source": "pipeline"}}}
    )
    assert [line.split() for line in found.splitlines()] == [
        ["Picture"],
        ["steps", "4", "(Modelfile)"],
        ["width", "(pipeline)"],
    ]
