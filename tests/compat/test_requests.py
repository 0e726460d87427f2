"""How a request is read: the body, the model's name, load and unload, keep_alive, options (GEN-01 to GEN-06)."""

import json
import time
from typing import Any

import pytest

from tests.compat.wire import ENDLESS, GREEDY, Record, Wire, text_of, together, until

SUM = "What is 12 + 34?"
ANSWER = "12 + 34 = 46."


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b"{", "not valid JSON"),
        (b'{"model": NaN}', "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"model": 5}', '"model"'),
        (b'{"stream": "yes"}', '"stream"'),
        (b'{"images": ["x", 1]}', '"images[1]"'),
        (b'{"context": [1.5]}', '"context[0]"'),
        (b'{"options": []}', '"options"'),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_not_one_is_refused_by_name(wire: Wire, body: bytes, named: str) -> None:
    answer = wire.post(body)
    assert (answer.status_code, named in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.req("GEN-01")
def test_the_content_type_does_not_matter(wire: Wire) -> None:
    body = Wire.body("zoo-think", SUM, None, think=False, stream=False)
    assert wire.post(body, **{"Content-Type": "text/plain"}).json()["response"] == ANSWER


@pytest.mark.req("GEN-01")
@pytest.mark.parametrize(
    "more",
    [
        '"PROMPT": "hi", "Prompt": "What is 12 + 34?"',
        '"prompt": "hi", "prompt": "What is 12 + 34?"',
        '"prompt": "What is 12 + 34?", "system": null, "images": null, "keep_alive": null, "format": null',
    ],
    ids=["any case", "last duplicate", "null is absent"],
)
def test_keys_are_read_as_go_reads_them(wire: Wire, more: str) -> None:
    options = json.dumps(GREEDY)
    body = f'{{"Model": "zoo-think", "stream": false, "think": false, "options": {options}, {more}}} trailing'
    assert wire.post(body.encode()).json()["response"] == ANSWER


@pytest.mark.req("GEN-01")
def test_a_lone_surrogate_becomes_a_replacement_character(wire: Wire) -> None:
    body = rb'{"model": "zoo-think", "prompt": "a\ud800b", "raw": true, "_debug_render_only": true}'
    assert wire.post(body).json()["_debug_info"]["rendered_template"] == "a\ufffdb"


@pytest.mark.req("GEN-01", "GEN-06")
def test_what_is_unknown_is_named_in_warnings(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM, {"num_predict": 1, "wobble": 3}, colour="red")
    assert record["warnings"] == ['unknown field "colour" was ignored', 'unknown option "wobble" was ignored']


@pytest.mark.req("GEN-02", "RES-01")
@pytest.mark.parametrize("name", ["zoo-think", "ZOO-Think", "zoo-think:latest", "library/zoo-think:LATEST"])
def test_a_name_is_found_in_any_case_and_answered_as_asked(wire: Wire, name: str) -> None:
    assert wire.generate(name, SUM, {"num_predict": 1})["model"] == name


@pytest.mark.req("GEN-02", "RES-05")
@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("a//b", 400, "invalid model name"),
        ("zoo think", 400, "invalid model name"),
        ("../zoo-think", 400, "invalid model name"),
        ("zoo-think:", 400, "invalid model name"),
        ("", 404, "model '' not found"),
        ("Nobody:1b", 404, "model 'Nobody:1b' not found"),
    ],
)
def test_a_name_that_leads_nowhere_is_said_to(wire: Wire, name: str, status: int, error: str) -> None:
    assert wire.refusal(name, SUM) == (status, error)


@pytest.mark.req("GEN-03", "GEN-04")
@pytest.mark.parametrize("stream", [None, True, False])
def test_no_prompt_loads_and_answers_one_object(wire: Wire, stream: bool | None) -> None:
    answer = wire.post(Wire.body("zoo-think", "", None, stream=stream))
    record = answer.json()
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert (record["response"], record["done"], record["done_reason"]) == ("", True, "load")
    assert "zoo-think" in wire.loaded()


@pytest.mark.req("GEN-03")
def test_an_unload_waits_for_requests_in_flight(wire: Wire) -> None:
    ends: dict[str, float] = {}

    def talk() -> str:
        with wire.streaming("zoo-think", SUM, {**ENDLESS, "num_predict": 400}) as records:
            record: Record = list(records)[-1]
        ends["talk"] = time.monotonic()
        return str(record["done_reason"])

    def unload() -> str:
        until(lambda: wire.loaded().get("zoo-think"))
        record = wire.generate("zoo-think", keep_alive=0)
        ends["unload"] = time.monotonic()
        return str(record["done_reason"])

    wire.unload("zoo-think")
    assert together(talk, unload) == ["length", "unload"]
    assert ends["talk"] <= ends["unload"] + 0.05
    assert "zoo-think" not in wire.loaded()


@pytest.mark.req("GEN-03")
def test_unloading_what_is_not_loaded_is_fine(wire: Wire) -> None:
    wire.unload("zoo-think")
    assert wire.generate("zoo-think", keep_alive="0")["done_reason"] == "unload"


@pytest.mark.req("GEN-04", "RES-01")
def test_streaming_is_the_default_and_comes_in_lines(wire: Wire) -> None:
    answer = wire.post(Wire.body("zoo-think", SUM, None))
    records = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [record["done"] for record in records[-3:]] == [False, False, True]
    assert len(records) > 10, "a record for each token, not one for all"


@pytest.mark.req("GEN-04")
def test_a_record_leaves_when_its_token_is_there(wire: Wire) -> None:
    with wire.streaming("zoo-think", SUM, ENDLESS) as records:
        assert all(next(records)["done"] is False for _ in range(5)), "this answer has no end that one could wait for"


@pytest.mark.req("GEN-05")
@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [(90, 90), ("10m", 600), ("1h30m", 5400), (".5h", 1800), ("90000000µs", 90), (-1, 9e9), ("-1m", 9e9), (1e12, 9e9)],
)
def test_keep_alive_says_how_long_a_model_stays(wire: Wire, keep_alive: Any, seconds: float) -> None:
    wire.generate("zoo-think", keep_alive=keep_alive)
    assert wire.seconds_left("zoo-think") == pytest.approx(seconds, abs=5) or wire.seconds_left("zoo-think") > seconds == 9e9


@pytest.mark.req("GEN-05")
def test_keep_alive_stays_when_it_is_not_given(wire: Wire) -> None:
    wire.generate("zoo-think", keep_alive="20m")
    wire.generate("zoo-think", SUM, {"num_predict": 1})
    assert wire.seconds_left("zoo-think") == pytest.approx(1200, abs=5)


@pytest.mark.req("GEN-05")
def test_keep_alive_is_five_minutes_unless_it_is_said(wire: Wire) -> None:
    wire.unload("zoo-think")
    wire.generate("zoo-think")
    assert wire.seconds_left("zoo-think") == pytest.approx(300, abs=5)


@pytest.mark.req("GEN-05")
@pytest.mark.parametrize(
    ("keep_alive", "error"),
    [
        ("30", 'time: missing unit in duration "30"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("", 'time: invalid duration ""'),
        ("ten", 'time: invalid duration "ten"'),
    ],
)
def test_a_keep_alive_that_go_would_not_read_is_refused(wire: Wire, keep_alive: Any, error: str) -> None:
    assert wire.refusal("zoo-think", SUM, keep_alive=keep_alive) == (400, error)


@pytest.mark.req("GEN-05")
def test_the_clock_starts_when_the_last_request_ends(wire: Wire) -> None:
    keep_alive = 0.5  # seconds
    wire.generate("zoo-think")
    with wire.streaming("zoo-think", SUM, ENDLESS, keep_alive=keep_alive) as records:
        end = time.monotonic() + 2 * keep_alive
        while time.monotonic() < end:
            next(records)
        assert "zoo-think" in wire.loaded()
    until(lambda: "zoo-think" not in wire.loaded())


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("top_k", "40", 'option "top_k" must be of type integer'),
        ("seed", True, 'option "seed" must be of type integer'),
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", 7, 'option "stop" must be of type array'),
        ("num_ctx", 15, 'option "num_ctx" must be 0 or at least 16'),
        ("num_ctx", -1, 'option "num_ctx" must be 0 or at least 16'),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_by_name(wire: Wire, option: str, value: Any, error: str) -> None:
    assert wire.refusal("zoo-think", SUM, {option: value}) == (400, error)


@pytest.mark.req("GEN-06")
def test_integers_take_any_number_and_null_is_not_given(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM, {"num_predict": 3.9, "top_k": 1e1, "temperature": None, "seed": 1})
    assert (record["eval_count"], record["done_reason"]) == (3, "length")


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize("stream", [True, False])
def test_num_predict_0_generates_nothing(wire: Wire, stream: bool) -> None:
    records = wire.post(Wire.body("zoo-think", SUM, {"num_predict": 0}, stream=stream)).text.splitlines()
    record = json.loads(records[-1])
    assert (len(records), record["response"], record["done_reason"], record["eval_count"]) == (1, "", "length", 0)
    assert record["prompt_eval_count"] == 18


@pytest.mark.req("GEN-06", "GEN-07")
def test_parameters_of_the_model_lie_under_those_of_the_request(wire: Wire) -> None:
    with wire.made("compat-parameters", parameters={"num_predict": 3, "stop": ["12"], "temperature": 0}) as name:
        body = {"model": name, "prompt": SUM, "think": False, "stream": False}
        assert wire.post(body).json()["response"] == ""
        assert wire.post({**body, "options": {"stop": "46"}}).json()["response"] == "12 +"
        assert wire.post({**body, "options": {"stop": [], "num_predict": 50}}).json()["response"] == ANSWER


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    "options",
    [
        {"mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.2},
        {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1},
        {"xtc_probability": 0.5, "xtc_threshold": 0.1, "min_keep": 1},
        {"repeat_last_n": -1, "repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    ],
    ids=["mirostat", "dry", "xtc", "penalties"],
)
def test_every_sampler_of_the_engine_can_be_had(wire: Wire, options: Record) -> None:
    record = wire.generate("zoo-think", SUM, {**options, "temperature": 0.8, "seed": 7, "num_predict": 20})
    assert (record["eval_count"] > 0, record.get("warnings")) == (True, None)


@pytest.mark.req("GEN-06")
def test_logit_bias_forbids_a_token(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM, {"logit_bias": {" +": -1e9}}, think=False)
    assert (record["response"][:2], "+" in record["response"]) == ("12", False)


@pytest.mark.req("GEN-06")
def test_a_stream_and_its_options_are_one_request_each(wire: Wire) -> None:
    short, long = together(
        lambda: wire.stream("zoo-think", SUM, {"num_predict": 2}), lambda: wire.stream("zoo-think", SUM, {"num_predict": 9})
    )
    assert (short[-1]["eval_count"], long[-1]["eval_count"]) == (2, 9)
    assert text_of(long, "thinking").startswith(text_of(short, "thinking"))
