import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serow.errors import EngineDied, TemplateError
from serow.server.exchange import Exchange, ExchangeMiddleware
from serow.server.log import JSONFormatter, TextFormatter, configure, request_logger
from serow.server.streaming import told
from serow.settings import Settings
from tests.support.server import running_server

SECRET = "the-prompt-nobody-may-see"


def exchange(**fields: Any) -> Exchange:
    known = {
        "id": "r1",
        "method": "POST",
        "path": "/api/generate",
        "client": "10.0.0.7",
        "status": 200,
        "duration": 1_234_567_000,
    }
    return Exchange(**{**known, **fields})


def line(formatter: logging.Formatter, caplog: pytest.LogCaptureFixture, wanted: Exchange, **settings: Any) -> str:
    """The line of one exchange."""
    with caplog.at_level(logging.INFO, "serow.request"):
        request_logger(Settings(**settings))(wanted)
    return formatter.format(caplog.records[-1])


def test_a_line_of_text_tells_who_asked_for_what_and_what_came_of_it(caplog: pytest.LogCaptureFixture) -> None:
    wanted = exchange(model="zoo-think")
    wanted.timeline.loaded_at, wanted.timeline.prompt_eval_count, wanted.timeline.eval_count = 1, 10, 8
    assert line(TextFormatter(), caplog, wanted).partition(" INFO ")[2] == (
        "request method=POST path=/api/generate status=200 duration=1.2346 model=zoo-think"
        " prompt_eval_count=10 prompt_cached_count=0 eval_count=8 client=10.0.0.7 request_id=r1"
    )


@pytest.mark.parametrize("text", ["a\nINFO request status=200", "a\rb", "a\x1b[2Jb", "a b", 'a"b', "a\u2028b"])
def test_no_client_writes_a_line_of_its_own(caplog: pytest.LogCaptureFixture, text: str) -> None:
    for wanted in (exchange(model=text), exchange(path=f"/{text}")):
        said = line(TextFormatter(), caplog, wanted)
        assert len(said.splitlines()) == 1 and said.isprintable()
        assert json.loads(line(JSONFormatter(), caplog, wanted))["status"] == 200


def test_what_a_client_made_up_is_not_written_in_full(caplog: pytest.LogCaptureFixture) -> None:
    for wanted in (exchange(model="m" * 10_000), exchange(path="/" + "p" * 10_000)):
        assert len(line(TextFormatter(), caplog, wanted)) < 1000


def test_what_went_wrong_is_told_when_it_is_ours_and_not_when_it_may_quote_the_client(caplog: pytest.LogCaptureFixture) -> None:
    ours = exchange(status=500, error=EngineDied("the engine ended with signal 9"))
    theirs = exchange(status=400, error=TemplateError(f"template error near {SECRET}"))
    said = json.loads(line(JSONFormatter(), caplog, ours))
    assert (said["level"], said["error"], said["request_id"]) == ("error", "the engine ended with signal 9", "r1")
    assert SECRET not in line(JSONFormatter(), caplog, theirs)


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_a_prompt_is_written_only_when_that_is_asked_for(caplog: pytest.LogCaptureFixture, is_asked_for: bool) -> None:
    said = line(TextFormatter(), caplog, exchange(prompt=SECRET), log_prompts=is_asked_for)
    assert (SECRET in said) is is_asked_for


def test_an_event_of_several_lines_poses_as_no_other() -> None:
    record = logging.LogRecord("serow.x", logging.INFO, "", 0, "last words:\n%s", ("one\r\x1b[2J\ntwo",), None)
    assert TextFormatter().format(record).partition("last words:")[2] == "\n    one\\r\\x1b[2J\n    two"


def test_a_traceback_stays_in_its_line_of_json() -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        record = logging.LogRecord("serow", logging.ERROR, "", 0, "unexpected", (), sys.exc_info())
    said = JSONFormatter().format(record)
    assert "\n" not in said and "RuntimeError" in json.loads(said)["traceback"]


@contextmanager
def configured() -> Iterator[None]:
    """Logging as a server sets it up, and as it was before."""
    loggers = [logging.getLogger(name) for name in ("", "serow", "uvicorn.error")]
    before = [(logger, logger.level, logger.handlers[:], logger.filters[:]) for logger in loggers]
    hooks = (sys.excepthook, sys.unraisablehook, threading.excepthook)
    configure(Settings())
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        for logger, level, handlers, filters in before:
            logger.setLevel(level)
            logger.handlers[:], logger.filters[:] = handlers, filters


async def test_the_traceback_of_a_fault_names_the_request_that_met_it(capsys: pytest.CaptureFixture[str]) -> None:
    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        told(KeyError("what nobody expected"))

    with configured():
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"r7")]}
        await ExchangeMiddleware(fault, [])(scope, _nothing, _nothing)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.endswith(" ERROR unexpected error while streaming request_id=r7")
    assert last == "KeyError: 'what nobody expected'"


async def _nothing(*_: Any) -> Any:
    """No message comes, and none is heard."""


def test_a_server_writes_json_lines_with_the_ids_of_its_answers(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = {"model": "zoo-think", "prompt": SECRET, "options": {"num_predict": 4}, "stream": False}
    with running_server(models, SEROW_LOG="json") as url:
        answer = httpx.post(f"{url}/api/generate", json=body, headers={"X-Request-Id": "from-a-test"}, timeout=60)
        httpx.post(f"{url}/api/generate", content=b"{", timeout=60)
    log = capfd.readouterr().err
    entries = [json.loads(text) for text in log.splitlines()]
    (said,) = [entry for entry in entries if entry.get("request_id") == "from-a-test"]
    assert (said["model"], said["eval_count"], said["status"]) == ("zoo-think", 4, 200)
    assert answer.headers["x-request-id"] == "from-a-test"
    assert [entry["status"] for entry in entries if entry["message"] == "request"] == [200, 400]
    assert SECRET not in log


def test_with_json_there_are_no_other_lines(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "SEROW_LOG": "json",
        "SEROW_MODELS": str(tmp_path),
        "SEROW_HOST": "127.0.0.1:0",
        "SEROW_KEEPALIVE": "1",
    }
    argv = [sys.executable, "-m", "serow", "serve"]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        httpx.get(f"{first['url']}/api/version", headers={"Host": "evil.example"}, timeout=60)
        process.terminate()
        out, err = process.communicate(timeout=60)
    entries = [json.loads(line) for line in (out + err).splitlines()]
    assert first["message"].endswith(f"listens on {first['url']}")
    assert {"SEROW_KEEPALIVE is no setting of this server; is SEROW_KEEP_ALIVE meant?", "request"} <= {
        entry["message"] for entry in entries
    }


def test_with_json_a_start_that_fails_is_one_object(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    environ = {**os.environ, "SEROW_LOG": "json", "SEROW_MODELS": str(file / "models"), "SEROW_HOST": "127.0.0.1:0"}
    argv = [sys.executable, "-m", "serow", "serve"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(done.stderr)
    assert (done.returncode, done.stdout, said["level"]) == (1, "", "error")
    assert said["message"].startswith("can't keep models in ") and said["hint"]


def test_what_python_would_say_in_lines_of_its_own_goes_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("of a thread")

    with configured():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(" ERROR unexpected fault") and lines[-1] == "RuntimeError: of a thread"
