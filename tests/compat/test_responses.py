"""What comes back: records, streams, errors, statuses (RES-01 to RES-06)."""

import http.client
import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from serow import __version__
from tests.compat.wire import ENDLESS, Wire, engines, text_of, together, until

SUM = "What is 12 + 34?"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
BREAKS = "a\u2028b\u2029c\u0085d"


@pytest.mark.req("RES-01")
def test_every_record_says_whose_it_is_and_when(wire: Wire) -> None:
    for record in wire.stream("zoo-think", SUM):
        assert {"model", "created_at", "response", "done"} <= record.keys()
        assert (record["model"], bool(RFC3339.fullmatch(record["created_at"]))) == ("zoo-think", True)
        age = datetime.now(UTC) - datetime.fromisoformat(record["created_at"])
        assert timedelta() <= age < timedelta(minutes=1)


@pytest.mark.req("RES-02")
@pytest.mark.parametrize("stream", [True, False])
def test_the_last_record_counts(wire: Wire, stream: bool) -> None:
    wire.unload("zoo-think")
    record = wire.post(Wire.body("zoo-think", SUM, None, stream=stream)).text.splitlines()[-1]
    last = json.loads(record)
    durations = [last[f"{phase}_duration"] for phase in ("load", "prompt_eval", "eval")]
    assert all(isinstance(duration, int) and duration > 0 for duration in durations)
    assert last["total_duration"] >= sum(durations)
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"], last["prompt_cached_count"]) == (18, 66, 0)
    assert len(last["context"]) == 18 + 66 - 1


@pytest.mark.req("RES-02")
def test_a_cached_prompt_counts_in_full(wire: Wire) -> None:
    first, second = (wire.generate("zoo-think", SUM) for _ in range(2))
    assert first["prompt_eval_count"] == second["prompt_eval_count"] == 18
    assert second["prompt_cached_count"] == 17, "all but the last token, which is read again"


@pytest.mark.req("RES-03")
@pytest.mark.parametrize("model", ["zoo-think", "smollm2:135m"])
def test_streamed_text_is_the_text_that_is_not_streamed(wire: Wire, model: str) -> None:
    options = {"temperature": 1.0, "seed": 11, "num_predict": 40, "deterministic": True}
    records, whole = wire.stream(model, SUM, options), wire.generate(model, SUM, options)
    assert len(records) > 2
    assert (text_of(records), text_of(records, "thinking")) == (whole["response"], whole.get("thinking", ""))


@pytest.mark.req("RES-03")
@pytest.mark.parametrize("text", ["é € 😂 👩‍👩‍👧 日本語", "a\u0301\U0001f1e9\U0001f1ea"])
def test_pieces_are_whole_characters(wire: Wire, text: str) -> None:
    """In zoo-think's vocabulary each byte of these is a token."""
    records = wire.stream("zoo-think", "Hi", format={"choice": [text]}, think=False)
    pieces = [record["response"] for record in records]
    assert ("".join(pieces), len(pieces) > 3, records[-1]["eval_count"] > len(pieces)) == (text, True, True)
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.req("RES-03", "GEN-06")
def test_a_character_that_num_predict_cuts_is_not_sent_in_part(wire: Wire) -> None:
    records = wire.stream("zoo-think", "Hi", {"num_predict": 3}, format={"choice": ["a😂"]}, think=False)
    assert (text_of(records), records[-1]["eval_count"], records[-1]["done_reason"]) == ("a", 3, "length")


@pytest.mark.req("RES-03")
@pytest.mark.parametrize("stream", [True, False])
def test_no_character_but_a_newline_ends_a_line(wire: Wire, stream: bool) -> None:
    answer = wire.post(Wire.body("zoo-think", "Hi", None, format={"choice": [BREAKS]}, think=False, stream=stream))
    assert not any(character in answer.text for character in "\u2028\u2029\u0085")
    assert text_of([json.loads(line) for line in answer.text.splitlines()]) == BREAKS


@pytest.mark.req("RES-04")
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_first_byte_has_its_status(wire: Wire, stream: bool) -> None:
    answer = wire.post(Wire.body("zoo-think", SUM, None, format={"type": 5}, stream=stream))
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.req("RES-04", "LIFE-06")
def test_an_engine_that_is_killed_in_mid_stream_leaves_an_error_line_and_the_next_request_works(wire: Wire) -> None:
    with wire.streaming("zoo-think", SUM, ENDLESS) as records:
        next(records)
        for engine in engines():
            os.kill(engine, signal.SIGKILL)
        rest = list(records)
    assert list(rest[-1]) == ["error"]
    assert not re.search(r"[/{]|Traceback|\d+\.\d+\.\d+", rest[-1]["error"])
    assert wire.generate("zoo-think", SUM, think=False)["response"] == "12 + 34 = 46."


@pytest.mark.req("RES-04", "RES-05", "LIFE-06")
def test_an_engine_that_is_killed_fails_an_answer_that_is_not_streamed_with_500(wire: Wire) -> None:
    def kill() -> None:
        until(lambda: wire.seconds_left("zoo-think") > 4000)  # the request has its place
        for engine in engines():
            os.kill(engine, signal.SIGKILL)

    wire.generate("zoo-think", keep_alive="5m")
    body = Wire.body("zoo-think", SUM, ENDLESS, stream=False, keep_alive="77m")
    answer, _ = together(lambda: wire.post(body), lambda: kill())
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    wire.unload("zoo-think")


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/api/generate", 405, "405 method not allowed"),
        ("DELETE", "/api/tags", 405, "405 method not allowed"),
        ("GET", "/api/nothing", 404, "404 page not found"),
        ("POST", "/", 405, "405 method not allowed"),
    ],
)
def test_a_path_or_method_that_there_is_not(wire: Wire, method: str, path: str, status: int, text: str) -> None:
    request = wire.client.build_request(method, path)
    del request.headers["accept"]  # who asks for a type gets JSON
    answer = wire.client.send(request)
    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.req("RES-05")
@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_foreign_page_gets_403_and_nothing_else(wire: Wire, header: dict[str, str]) -> None:
    answer = wire.post(Wire.body("zoo-think", SUM, None), **header)
    assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.req("RES-05")
def test_a_body_that_says_it_is_too_large_is_refused_unread(wire: Wire) -> None:
    address = urlsplit(wire.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.putrequest("POST", "/api/generate")
    connection.putheader("Content-Length", str(10 << 30))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, "larger than" in json.loads(answer.read())["error"]) == (413, True)
    connection.close()


@pytest.mark.req("RES-06")
def test_the_root_says_that_we_are_there(wire: Wire) -> None:
    assert (wire.client.get("/").text, wire.client.head("/").status_code) == ("Ollama is running", 200)


@pytest.mark.req("RES-06")
def test_the_version_is_the_level_of_the_api_beside_our_own(wire: Wire) -> None:
    assert wire.client.get("/api/version").json() == {"version": "0.33.0", "serow": __version__}
