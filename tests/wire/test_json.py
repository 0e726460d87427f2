import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import RequestError
from serow.wire import skeleton
from serow.wire.json import decode_object, encode_line, now


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
        (b'{"a":' + b"9" * 10_000 + b"}", "a number of more than 300 digits"),
        (b'{"b":"' + b"x" * ((1 << 20) - 200) + b'", "a":' + b"9" * 301 + b"}", "a number of more than 300 digits"),
        (bytearray(b'{"a":' + b"9" * 10_000 + b"}"), "a number of more than 300 digits"),
        (b'{"a": [' + b"1," * 1_000_001 + b"1]}", "holds 1000001 values, more than the 1000000 allowed"),
        (b'{"a": [' + b"{}," * 100_001 + b"1]}", "objects and lists, more than the 100000 allowed"),
        (b'{"a": {' + b'"":1,' * 100_001 + b'"b":1}}', "keys, more than the 100000 allowed"),
        (b'{"a": "' + b"\\n" * 8_000_001 + b'"}', "escaped characters, more than the 8000000 allowed"),
        (b"{" + b",".join(b'"%d":1' % number for number in range(201)) + b"}", "holds 201 fields, more than the 200 allowed"),
        (b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", "nested too deeply"),
        (b'{"a": 1e400}', "a number is out of range"),
        (b'{"a": -1e400}', "a number is out of range"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_object(body)


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    "text",
    ["9" * 1000, "[" * 1000, "a,b" * 400_000, "a:b" * 60_000, '\\"' * 1000 + "[{" * 1000, "\\\\" * 500, "\u2028[" * 500],
    ids=["digits", "brackets", "commas", "colons", "quotes and brackets", "backslashes", "beyond ASCII"],
)
def test_what_stands_in_a_string_counts_as_nothing_but_text(text: str) -> None:
    assert decode_object(json.dumps({"prompt": text}).encode()) == {"prompt": text}
    assert decode_object(json.dumps({"prompt": text}, ensure_ascii=False).encode()) == {"prompt": text}


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize("shift", range(6))
def test_a_large_body_is_looked_through_in_pieces_wherever_they_are_cut(monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    monkeypatch.setattr(skeleton, "_PIECE", 7)
    text = "x" * shift + '\\\\"[[{{' * 200 + "\\\\" * 5 + ',"'
    body = json.dumps({"prompt": text, "a": [[1], {"b": "]"}]}).encode()
    assert decode_object(body) == {"prompt": text, "a": [[1], {"b": "]"}]}
    for broken in (json.dumps({"prompt": text})[:-1] + ', "a": ' + "[" * 101 + "]" * 101 + "}", '{"a": ' + "9" * 301 + "}"):
        with pytest.raises(RequestError, match=r"nested too deeply|300 digits"):
            decode_object(broken.encode())


@pytest.mark.req("GEN-01")
def test_what_follows_the_first_value_is_no_depth_of_it() -> None:
    assert decode_object(b'{"a": [1]}' + b"[" * 1000) == {"a": [1]}


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize("lone", ["\\ud800", "\\uDFFF", "\\udc00\\ud800"])
def test_a_lone_surrogate_is_replaced_wherever_it_stands(lone: str) -> None:
    body = f'{{"a": [{{"k{lone}": ["{lone}", {{"x": "y{lone}z"}}]}}], "b": "\\ud83d\\ude00"}}'
    mark = "\ufffd" * lone.count("u")
    assert decode_object(body.encode()) == {"a": [{f"k{mark}": [mark, {"x": f"y{mark}z"}]}], "b": "\U0001f600"}


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
        decode_object(body)
    except RequestError as error:
        assert str(error)


@pytest.mark.parametrize("size", [1, (256 << 10) - 1, 256 << 10, (600 << 10) + 5])
def test_space_before_the_first_value_is_skipped_however_long_it_is(size: int) -> None:
    assert decode_object(b" " * size + b'{"a": 1}') == {"a": 1}
    assert decode_object(b"\t" * size + b'{"a": 1}') == {"a": 1}
    with pytest.raises(RequestError, match="missing request body"):
        decode_object(b"\r" * size)
    with pytest.raises(RequestError, match=f"not valid UTF-8 at byte {size + 2}"):
        decode_object(b" " * size + b'{"\xff": 1}')
