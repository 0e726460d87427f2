"""`serow run` with a prompt."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Serow

QUESTION = "What is 37 + 85?"
ANSWER = "37 + 85 = 122.\n\n"


def test_the_answer_goes_to_stdout_and_nothing_else(serow: Serow) -> None:
    assert serow("run", "zoo-think", "--think=false", QUESTION) == (0, ANSWER, "")


def test_thinking_goes_to_stderr_in_a_pipe_so_that_the_answer_stands_alone(serow: Serow) -> None:
    code, out, err = serow("run", "zoo-think", QUESTION)
    assert (code, out) == (0, ANSWER)
    assert err.startswith("Thinking...\n")
    assert err.endswith("\n...done thinking.\n\n")
    assert "\x1b" not in err


def test_thinking_can_be_hidden(serow: Serow) -> None:
    assert serow("run", "zoo-think", "--think", "--hidethinking", QUESTION).out == ANSWER


def test_words_of_the_prompt_are_joined(serow: Serow) -> None:
    assert serow("run", "zoo-think", "--think=false", *QUESTION.split()).out == ANSWER


def test_text_that_is_piped_in_comes_before_the_prompt(serow: Serow) -> None:
    assert serow("run", "zoo-think", "--think=false", stdin=QUESTION).out == ANSWER
    assert serow("run", "zoo-think", "--think=false", "37 + 85?", stdin="What is").out == ANSWER


def test_verbose_prints_rates_to_stderr(serow: Serow) -> None:
    _, out, err = serow("run", "zoo-think", "--think=false", "--verbose", QUESTION)
    assert out == ANSWER
    names = [line.split(":")[0] for line in err.splitlines()]
    assert names[0] == "total duration"
    assert names[-3:] == ["eval count", "eval duration", "eval rate"]


@pytest.mark.parametrize("kind", ["file", "text"])
def test_format_takes_a_schema(serow: Serow, home: Path, kind: str) -> None:
    schema = json.dumps({"enum": ["yes", "no"]})
    (home / "schema.json").write_text(schema)
    out = serow("run", "zoo-think", "--think=false", "--format", schema if kind == "text" else "schema.json", QUESTION).out
    assert json.loads(out) in ("yes", "no")


def test_what_the_server_relaxes_or_ignores_is_said_on_stderr(serow: Serow) -> None:
    schema = json.dumps({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 2})
    status, out, err = serow("run", "zoo-think", "--think=false", "--format", schema, QUESTION)
    assert isinstance(json.loads(out), list)
    assert status == ("warning: the answer does not fit the format\n" in err)
    assert err.startswith("warning: ")
    assert "uniqueItems" in err


def test_an_answer_in_a_format_that_is_cut_is_said_and_is_a_failure(serow: Serow) -> None:
    schema = json.dumps({"type": "array", "items": {"type": "string"}, "minItems": 400})
    code, out, err = serow("run", "zoo-think", "--think=false", "--format", schema, QUESTION)
    assert code == 1
    assert out.startswith("[")
    assert err == "warning: format: the answer was cut before it was whole, so it does not fit\n"


def test_a_word_of_the_prompt_may_follow_think(serow: Serow) -> None:
    assert serow("run", "zoo-think", "--think", "--hidethinking", *QUESTION.split()).out == ANSWER
    assert serow("run", "zoo-think", "--hidethinking", "--think", "--", *QUESTION.split()).out == ANSWER


def test_a_picture_named_in_the_prompt_is_seen(serow: Serow, zoo: Path) -> None:
    case = next(case for case in json.loads((zoo / "vision_cases.json").read_text()) if case["kind"] == "shape")
    code, out, err = serow("run", "zoo-vision", f"{case['prompt']} {zoo / case['image']}")
    assert (code, out.strip()) == (0, case["expect"])
    assert err.startswith("added image ")


def test_what_the_server_refuses_is_one_line(serow: Serow) -> None:
    code, out, err = serow("run", "smollm2:135m", "--think", "Hi")
    assert (code, out) == (1, "")
    hint = "leave --think out; serow show MODEL lists what it can do"
    assert err == f'error: "smollm2:135m" does not support thinking\nhint: {hint}\n'


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that nobody answers on and nobody else can have."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_server_that_can_not_start_is_told_with_its_log(
    serow: Serow, home: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEROW_HOST", f"127.0.0.1:{taken_port}")
    code, _, err = serow("run", "zoo-think", QUESTION)
    assert code == 1
    assert f"error: the server did not start: can't listen on 127.0.0.1:{taken_port}: address already in use\n" in err
    assert err.splitlines()[-1] == f"hint: its log is {home}/state/serow/servers/{taken_port}.log"


def test_serve_says_that_its_address_is_taken(serow: Serow, taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", f"127.0.0.1:{taken_port}")
    code, out, err = serow("serve")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: can't listen on 127.0.0.1:{taken_port}: address already in use\nhint: ")


def test_serve_says_that_its_store_can_not_be_a_directory(serow: Serow, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", "127.0.0.1:0")
    monkeypatch.setenv("SEROW_MODELS", str(home / "file"))
    (home / "file").touch()
    code, _, err = serow("serve")
    assert code == 1
    assert err == f"error: can't keep models in {home}/file: file exists\nhint: choose a directory in SEROW_MODELS\n"


def test_bytes_that_are_no_text_are_named_as_such(serow: Serow) -> None:
    code, _, err = serow("run", "zoo-think", stdin="caf\udce9")  # as Python reads them where no locale is set
    hint = "hint: convert it first, as with: iconv -t UTF-8 FILE\n"
    assert (code, err) == (1, f"error: only text that is UTF-8 can be sent\n{hint}")


def test_serve_says_that_the_engine_it_is_to_use_is_none(serow: Serow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_LLAMA_SERVER", "/no/such/program")
    assert serow("serve") == (
        1,
        "",
        "error: SEROW_LLAMA_SERVER=/no/such/program is no program\nhint: give the path of a llama-server\n",
    )
