"""Bodies of /api/generate as Asks, events as its records."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import RequestError
from serow.inference.ask import Insert, Nothing, Prompt, Raw, Single
from serow.wire.ollama import decode_generate


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", 5, '"model" must be a string, not an integer'),
        ("prompt", ["a"], '"prompt" must be a string, not an array'),
        ("stream", 0, '"stream" must be a boolean, not an integer'),
        ("raw", "true", '"raw" must be a boolean, not a string'),
        ("context", "abc", '"context" must be an array, not a string'),
        ("context", [1.5], '"context[0]" must be an integer, not a number'),
        ("images", [5], '"images[0]" must be a string, not an integer'),
        ("options", [], '"options" must be an object, not an array'),
        ("logprobs", 1, '"logprobs" must be a boolean, not an integer'),
        ("top_logprobs", 2.5, '"top_logprobs" must be an integer, not a number'),
        ("width", "a", '"width" must be an integer, not a string'),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_generate(json.dumps({field: value}).encode())
    assert str(caught.value) == message


@pytest.mark.req("GEN-01")
def test_many_unknown_names_are_counted_not_repeated() -> None:
    body = {"x" * 1000: 1, **{f"field{number}": 1 for number in range(30)}}
    warnings = decode_generate(json.dumps(body).encode()).warnings
    assert warnings[0] == f'unknown field "{"x" * 64}…" was ignored'
    assert (len(warnings), warnings[-1]) == (21, "11 more unknown fields were ignored")


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stop": ["x"] * 1001}, '"stop" holds 1001 strings, more than the 1000 allowed'),
        ({"stop": ["x" * 70_000]}, '"stop" holds 70000 characters, more than the 65536 allowed'),
        (
            {"logit_bias": {str(number): 1 for number in range(4097)}},
            '"logit_bias" holds 4097 tokens, more than the 4096 allowed',
        ),
        ({"logit_bias": [[1, 1]] * 4097}, '"logit_bias" holds 4097 tokens, more than the 4096 allowed'),
        (
            {"logit_bias": [["x" * 40_000, 1], ["y" * 30_000, 1]]},
            '"logit_bias" holds 70000 characters, more than the 65536 allowed',
        ),
        ({str(number): 1 for number in range(201)}, '"options" holds 201 names, more than the 200 allowed'),
    ],
)
def test_options_have_bounds(options: dict[str, Any], error: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_generate(json.dumps({"options": options}).encode())
    assert str(caught.value) == error


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize("token", ["²", "٣", "1²"])
def test_a_biased_token_that_is_no_number_is_a_text(token: str) -> None:
    request = decode_generate(json.dumps({"options": {"logit_bias": {token: 1}}}).encode())
    assert request.options["logit_bias"] == ((token, 1.0),)


@pytest.mark.req("GEN-01")
def test_unknown_fields_and_options_are_named_in_warnings() -> None:
    request = decode_generate(b'{"nonsense":1,"options":{"numa":true,"top_k":3.9}}')
    assert request.warnings == ('unknown field "nonsense" was ignored', 'unknown option "numa" was ignored')
    assert request.options == {"top_k": 3}


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ("ultra", 'invalid think value: "ultra" (must be "high", "medium", "low", "max", true, or false)'),
    ],
)
def test_think_takes_a_boolean_or_a_level(value: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_generate(json.dumps({"think": value}).encode())
    assert str(caught.value) == message


@pytest.mark.req("GEN-17", "GEN-18")
@pytest.mark.parametrize(
    ("field", "value"),
    [("top_logprobs", -1), ("top_logprobs", 21), ("width", 0), ("height", 4097), ("steps", 0), ("steps", 1001)],
)
def test_a_number_out_of_range_is_refused_on_every_model(field: str, value: int) -> None:
    with pytest.raises(RequestError, match=f"{field} must be between"):
        decode_generate(json.dumps({field: value}).encode())


@pytest.mark.req("GEN-01")
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_request_error(body: bytes) -> None:
    try:
        decode_generate(body)
    except RequestError as error:
        assert str(error)


@pytest.mark.req("GEN-03", "GEN-09", "GEN-10")
@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({}, Nothing()),
        ({"raw": True, "suffix": "s"}, Nothing()),
        ({"prompt": "p", "system": "s", "images": ["i"]}, Single("p", "s", images=["i"], context=[])),
        ({"prompt": "p", "raw": True}, Raw("p", [])),
        ({"suffix": "s"}, Insert("", "s")),
        ({"prompt": "p", "suffix": "s", "template": "t"}, Insert("p", "s", "t")),
    ],
)
def test_the_fields_say_which_prompt_it_is(body: dict[str, Any], prompt: Prompt) -> None:
    assert decode_generate(json.dumps(body).encode()).prompt == prompt


def test_the_fields_that_say_something_are_told() -> None:
    ask = decode_generate(b'{"model": "m", "stream": false, "think": true, "raw": false, "steps": 3, "options": {"steps": 5}}')
    assert ask.given == ("model", "stream", "options", "think", "steps") and ask.options == {"steps": 3}
