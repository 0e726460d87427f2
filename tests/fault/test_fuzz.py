"""Requests that nobody would write, drawn from our own OpenAPI document and bent from there: none may find a fault of ours.

Each test draws SEROW_FUZZ_EXAMPLES requests (25 by default, and then always the same ones). A long run, 100,000 in all:
`SEROW_FUZZ_EXAMPLES=25000 pytest tests/fault/test_fuzz.py --timeout 0`.

schemathesis would do some of this, but keeps jsonschema-rs below the version that checks our schemas.
"""

import json
import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serow.options import LoadOptions
from serow.server.openapi import document
from serow.server.operation import Operation
from serow.server.routes import OPERATIONS
from serow.store.store import Store
from tests.conftest import create
from tests.schemas import ANY_JSON, some_of, validator, values
from tests.support.server import running_server

DOCUMENT = document(OPERATIONS)
EXAMPLES = int(os.environ.get("SEROW_FUZZ_EXAMPLES", "0"))
DEADLINE = 60  # seconds
ENGINES = ("the engine ", "could not load the model", "model requires more system memory")
STATUSES = {200, 307, 400, 401, 403, 404, 405, 413, 415, 431, 500, 502, 503}
ODD_NAMES = [
    "",
    "nobody",
    "a b",
    "../../etc/passwd",
    "zoo-think:",
    "a" * 400,
    "/",
    "made:\x00",
    "host/ns/name:tag",
    "zoo-think@sha256:x",
]
TEMPLATES = ["{{ .Prompt }}", "{{", "{{ range .Messages }}{{ end }}", '{{ template "x" . }}', "{{ index .Prompt 9 }}"]

bounded = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
num_predicts: st.SearchStrategy[int | str] = st.sampled_from([0, 1, 1, 4, 4, 4, 4, "x"])
made_names = st.sampled_from(["made"] * 10 + ["Made:x", *ODD_NAMES])
any_names = st.sampled_from(["zoo-think"] * 30 + ["made", *ODD_NAMES])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[httpx.Client]:
    """A client of a server whose models may be spoilt."""
    store = Store(tmp_path_factory.mktemp("fuzz"))
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    with running_server(store.root) as url, httpx.Client(base_url=url, timeout=DEADLINE) as client:
        yield client


@cache
def fields_of(operation: Operation) -> dict[str, st.SearchStrategy[Any]]:
    """What the document can't say: names that exist, and what would take for ever or destroy what others need."""
    assert operation.body is not None
    names = any_names if operation.path in ("/api/generate", "/api/show") else made_names
    special: dict[str, st.SearchStrategy[Any]] = {"model": names, "name": names, "destination": made_names}
    special["source"] = special["from"] = any_names
    special["template"] = st.sampled_from(TEMPLATES) | st.text(max_size=20)
    special["keep_alive"] = st.sampled_from(["5m", "1h30m", 300, -1, "x", 1e300, ""])
    special["context"] = st.lists(st.integers(0, 255), max_size=300) | st.lists(st.integers(), max_size=3)
    special["format"] = st.sampled_from(["json", {"type": "object"}, {"enum": [1, "a"]}]) | ANY_JSON
    schema = DOCUMENT["components"]["schemas"][operation.body.__name__]
    return {name: special[name] if name in special else values(DOCUMENT, each) for name, each in schema["properties"].items()}


@st.composite
def bodies(draw: st.DrawFn, operation: Operation) -> dict[str, Any]:
    """A body of an operation; one field in it may be anything."""
    fields = dict(fields_of(operation))
    likely = [name for name in ("model", "source", "destination", "prompt", "from") if name in fields]
    body = {name: draw(fields.pop(name)) for name in likely} | draw(some_of(fields))
    if draw(st.integers(0, 5)) == 0:
        body[draw(st.sampled_from(sorted(fields_of(operation))) | st.text(max_size=8))] = draw(ANY_JSON)
    return quick(body, draw(num_predicts)) if operation.path == "/api/generate" else body


def quick(body: dict[str, Any], num_predict: int | str) -> dict[str, Any]:
    """Few tokens, and the model stays as it is loaded."""
    options = body.get("options") or {}
    if isinstance(options, dict):
        kept = {name: value for name, value in options.items() if name not in LoadOptions.__struct_fields__}
        body["options"] = {**kept, "num_predict": num_predict}
    if body.get("keep_alive") in (0, "0"):
        del body["keep_alive"]
    return body


def check(answer: httpx.Response, operation: Operation | None = None) -> None:
    """Whatever was asked, this holds of the answer."""
    assert answer.status_code in STATUSES, answer.text
    records = records_of(answer)
    if records and answer.status_code >= 400:
        assert records[0].keys() - {"type", "request_id"} == {"error"}
    for record in records:
        if "error" in record:
            assert words_of(record) and "internal error" not in words_of(record)
        elif operation is not None and operation.answer is not None:
            validator(DOCUMENT, operation.answer.__name__).validate(record)
    if answer.status_code >= 500 and answer.status_code != 502:  # a registry that is not there
        assert words_of(records[0]).startswith(ENGINES), answer.text
    if "ndjson" in answer.headers.get("content-type", ""):
        assert records[-1].get("done") or records[-1].get("status") == "success" or "error" in records[-1]


def words_of(record: dict[str, Any]) -> str:
    """The sentence of an error, in the shape of any dialect."""
    error = record["error"]
    words = error if isinstance(error, str) else error["message"]
    assert isinstance(words, str)
    return words


def records_of(answer: httpx.Response) -> list[dict[str, Any]]:
    kind = answer.headers.get("content-type", "")
    if "ndjson" in kind:
        return [json.loads(line) for line in answer.text.split("\n") if line]
    has_json = kind.startswith("application/json") and answer.request.method != "HEAD"
    return [answer.json()] if has_json else []


generate, *others = (operation for operation in OPERATIONS if operation.body is not None)
with_body = st.sampled_from([*[generate] * len(others), *others])


@bounded
@given(data=st.data())
def test_a_body_that_nobody_would_write_gets_an_answer_that_says_what_is_wrong(
    client: httpx.Client, data: st.DataObject
) -> None:
    operation = data.draw(with_body)
    check(client.request(operation.method, operation.path, json=data.draw(bodies(operation))), operation)


@bounded
@given(data=st.data(), where=st.integers(0, 200), junk=st.binary(max_size=12))
def test_bytes_that_are_hardly_json_get_one_too(client: httpx.Client, data: st.DataObject, where: int, junk: bytes) -> None:
    operation = data.draw(with_body)
    body = json.dumps(data.draw(bodies(operation))).encode()
    if operation.path == "/api/generate" and data.draw(st.booleans()):
        body = b'{"model": "zoo-think", "options": {"num_predict": 1}, "prompt": ' + junk + b"}"
    elif operation.path == "/api/generate":
        body = body[:where]  # what is cut has lost its end, so it is never a prompt without a bound
    else:
        body = body[:where] + junk + body[where + len(junk) :]
    check(client.request(operation.method, operation.path, content=body))


@bounded
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "PROPFIND"]),
    path=st.sampled_from([operation.path for operation in OPERATIONS]) | st.text(max_size=30).map("/{}".format),
    digest=st.from_regex(r"sha256[:-][0-9a-f]{60,68}", fullmatch=True) | st.text(max_size=80),
    name=st.sampled_from(
        ["host", "origin", "authorization", "content-type", "content-length", "accept", "x-request-id", "traceparent"]
    ),
    value=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60),
)
def test_odd_paths_methods_and_headers_get_one_too(
    client: httpx.Client, method: str, path: str, digest: str, name: str, value: str
) -> None:
    target = quote(path.replace("{digest}", digest), safe="/:")
    headers = [(name.encode(), value.strip().encode("latin-1"))] if name != "content-length" else []
    check(client.request(method, "/" + target.lstrip("/"), headers=headers, content=b""))


@bounded
@given(
    head=st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n"]),
    junk=st.binary(min_size=1),
)
def test_bytes_that_are_hardly_http_leave_the_server_as_it_was(client: httpx.Client, head: bytes, junk: bytes) -> None:
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port or 80), DEADLINE) as connection:
        connection.sendall(head + junk + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(4096)
    assert not said or (said.startswith(b"HTTP/1.1 ") and int(said[9:12]) in STATUSES)
    assert client.get("/").text == "Ollama is running"


@settings(bounded, max_examples=max(6, EXAMPLES // 500))
@given(options=values(DOCUMENT, DOCUMENT["components"]["schemas"]["Options"]))
def test_options_that_load_the_model_anew_never_break_more_than_their_own_request(
    client: httpx.Client, options: dict[str, Any]
) -> None:
    loaded_with = {name: value for name, value in options.items() if name in LoadOptions.__struct_fields__}
    body = {"model": "zoo-think", "prompt": "hi", "stream": False, "options": {**loaded_with, "num_predict": 1}}
    check(client.post("/api/generate", json=body))
    assert client.post("/api/generate", json={**body, "options": {"num_predict": 1}}).status_code == 200
