import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.api.codec import decode_generate, decode_object, encode_line, now
from serow.errors import RequestError


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"} trailing', {"model": "m"}),
        (b' \n{"model":"m"}{"model":"n"}', {"model": "m"}),
        (b'{"model":"a","model":"b"}', {"model": "b"}),
        (b'{"model":"a","Model":"b","model":"c"}', {"model": "c"}),
        (b'{"MODEL":"a"}', {"model": "a"}),
        (b'{"model":null}', {}),
        (b'{"prompt":"\\ud800x"}', {"prompt": "\ufffdx"}),
        (b'{"prompt":"\\ud83d\\ude00"}', {"prompt": "\U0001f600"}),
        (b'{"prompt":"a"} \xff', {"prompt": "a"}),
        (b'{"options":{"Seed":1}}', {"options": {"Seed": 1}}),
    ],
)
def test_a_body_is_read_as_go_reads_it(body: bytes, expected: dict[str, Any]) -> None:
    assert decode_object(body) == expected


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "missing request body"),
        (b"  \n", "missing request body"),
        (b"hello", "not valid JSON"),
        (b'{"prompt":"\xff"}', "not valid UTF-8 at byte 11"),
        (b"\xff", "not valid UTF-8 at byte 0"),
        ('{"prompt":"Grüße"}'.encode("latin-1"), "not valid UTF-8 at byte 13"),
        ('{"prompt":"Grüße"}'.encode("utf-16"), "not valid UTF-8 at byte 0"),
        (b'{"prompt":"\xed\xa0\x80"}', "not valid UTF-8 at byte 11"),
        (b'{"model": "m", "prompt": ', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[1,2]", "must be a JSON object, not an array"),
        (b"null", "must be a JSON object, not null"),
        (b'"x"', "must be a JSON object, not a string"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' + b"9" * 10_000 + b"}", "not valid JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_object(body)


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


@pytest.mark.req("RES-03")
def test_no_character_but_a_newline_ends_a_line() -> None:
    line = encode_line({"response": "a\u2028b\u2029c\u0085d\né"})
    assert line.decode().splitlines() == [line.decode().removesuffix("\n")]
    assert json.loads(line) == {"response": "a\u2028b\u2029c\u0085d\né"}


@pytest.mark.req("RES-01")
def test_created_at_is_utc_with_a_fraction() -> None:
    assert now().endswith("Z")
    assert len(now().partition(".")[2]) == 10


@pytest.mark.req("GEN-01")
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_request_error(body: bytes) -> None:
    try:
        decode_generate(body)
    except RequestError as error:
        assert str(error)
