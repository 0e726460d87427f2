"""Addresses that answer as no engine should: words, no key of ours, and nothing that hangs (REM-05)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from serow.engines.remote import completions
from serow.settings import Settings
from tests.engines.remote.test_remote_model import Door
from tests.support import vllm
from tests.support.server import Running, running
from tests.support.vllm import FakeVllm

pytest.importorskip("tokenizers", reason="the extra serow[remote] is not installed")
pytestmark = pytest.mark.req("REM-05")
KEY = "sk-of-the-operator"
Say = Callable[[asyncio.StreamWriter], Awaitable[None]]
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(text: str = "a", **fields: object) -> bytes:
    choice = {"index": 0, "text": text, "token_ids": list(text.encode()), "finish_reason": None, **fields}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


END = event("", finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json", head: str = "") -> bytes:
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}\r\n"
    return lines.encode() + body


class Stranger:
    """Says something of its own at one path, and what an engine would at the others; `seen` is what it was sent."""

    def __init__(self, path: str, say: bytes | Say) -> None:
        self._path = path
        self._say = say
        self.seen = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen += head
            if head.split()[1].decode() != self._path:
                writer.write(_usual(head))
            elif isinstance(self._say, bytes):
                writer.write(self._say)
            else:
                await self._say(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def _usual(head: bytes) -> bytes:
    if b"/v1/models" in head:
        return answer(json.dumps({"data": [{"id": vllm.MODEL, "max_model_len": 256}]}).encode())
    return answer(b'{"detail": "Not Found"}', "404 Not Found")


@asynccontextmanager
async def stranger(path: str, say: bytes | Say) -> AsyncIterator[tuple[Stranger, str]]:
    found = Stranger(path, say)
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    try:
        yield found, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """It has a key for whoever is on this machine."""
    models = tmp_path_factory.mktemp("models")
    async with running(Settings(models=models, stall_timeout=2.0, remote_keys=(("127.0.0.1", KEY),))) as found:
        yield found


async def ask(server: Running, tmp_path: Path, path: str, say: bytes | Say, num_predict: int = 5) -> tuple[int, str]:
    """Status and text of a request to a model at a stranger's address."""
    async with stranger(path, say) as (_, host):
        door = Door(server, FakeVllm(), vllm.write_folder(tmp_path / "folder"))
        assert (await door.create(f"vllm://{host}"))[0] == 200
        body = {"model": "m", "prompt": "x", "stream": False, "options": {"num_predict": num_predict}}
        async with asyncio.timeout(20):
            status, text = await door.text("/api/generate", body)
    assert KEY not in text
    return status, text


async def _again(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)


def _trickles(start: bytes, piece: bytes) -> Say:
    async def say(writer: asyncio.StreamWriter) -> None:
        await _again(writer, (start, *(piece for _ in range(400))))

    return say


async def _silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


LOOKS: dict[str, tuple[bytes | Say, int, str]] = {
    "another API": (answer(b'{"detail": "Not Found"}', "404 Not Found"), 500, "does not speak OpenAI's API"),
    "a web page": (answer(b"<html>hi</html>", kind="text/html"), 500, "web page"),
    "a web page that is not said to be one": (answer(b"<html>hi</html>", kind="x/y"), 500, "not an answer"),
    "a list": (answer(b"[1, 2]"), 500, "not an answer"),
    "a model that is none": (answer(b'{"data": [{"id": 3}]}'), 500, "not an answer"),
    "nested too deep": (answer(b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 500, "not an answer"),
    "no length": (answer(json.dumps({"data": [{"id": vllm.MODEL, "max_model_len": -4}]}).encode()), 500, "how long"),
    "the key": (answer(json.dumps({"data": [{"id": KEY}]}).encode()), 400, "has no model"),
    "elsewhere": (answer(b"", "302 Found", head="Location: http://127.0.0.1:1/\r\n"), 500, "not followed"),
    "too much": (answer(b" " * (17 << 20)), 500, "not an answer"),
    "nothing": (b"", 502, "does not answer"),
    "no HTTP": (b"220 mail.example ESMTP\r\n", 502, "does not answer"),
    "half a body": (answer(b"{}").replace(b"Length: 2", b"Length: 9"), 502, "broke off"),
}
ANSWERS: dict[str, tuple[bytes | Say, int, str]] = {
    "the key in an error": (answer(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), "400 Bad"), 400, "bad key …"),
    "the key in an event": (_EVENTS + b'data: {"error": {"message": "' + KEY.encode() + b'"}}\n\n', 500, "failed: …"),
    "an error without end": (_trickles(b"HTTP/1.1 500 No\r\nContent-Length: 999999\r\n\r\n", b" "), 500, "status 500"),
    "comments without end": (_trickles(_EVENTS, b": still here\n\n"), 502, "made no progress"),
    "a line without end": (_trickles(_EVENTS, b"d"), 502, "made no progress"),
    "events without text": (_trickles(_EVENTS, event("")), 502, "made no progress"),
    "a line of 10 MB": (_EVENTS + b"data: " + b"x" * (10 << 20), 500, "too long"),
    "more than was asked for": (_EVENTS + event() * 50, 500, "more tokens than it was asked for"),
    "half an event": (_EVENTS + event()[:20], 502, "broke off"),
    "no end": (_EVENTS + event(), 502, "broke off"),
    "an end without a text": (_EVENTS + DONE, 502, "broke off"),
    "half a letter": (_EVENTS + b'data: {"choices": [{"text": "\\ud800"}]}\n\n', 500, "not an answer"),
    "text that is none": (_EVENTS + b'data: {"choices": [{"text": {"a": 1}}]}\n\n', 500, "not an answer"),
    "a number without end": (_EVENTS + b'data: {"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}\n\n", 500, "not an answer"),
}
SAID = {
    "ids out of range": (event("ab", token_ids=[10**9, -7]) + END + DONE, "ab"),
    "the end twice": (event("ab") + END + DONE + DONE + event("cd"), "ab"),
    "text behind the end": (event("ab") + END + event("cd") + DONE, "ab"),
    "the usage first": (b'data: {"usage": {"prompt_tokens": 1}}\n\n' + event("ab") + END + DONE, "ab"),
    "several choices": (event("ab").replace(b'"choices": [', b'"choices": [' + event("ab")[19:-4] + b", ") + END, "ab"),
}


@pytest.mark.parametrize("name", LOOKS)
async def test_an_address_that_is_no_engine_is_told_in_words(server: Running, tmp_path: Path, name: str) -> None:
    say, status, words = LOOKS[name]
    found, text = await ask(server, tmp_path, "/v1/models", say)
    assert (found, words in text) == (status, True), text


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_none_is_told_in_words(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(completions, "ANSWER", 2.0)  # seconds; what comes without end comes for longer
    say, status, words = ANSWERS[name]
    found, text = await ask(server, tmp_path, "/v1/completions", say)
    assert (found, words in text) == (status, True), text


@pytest.mark.parametrize("name", SAID)
async def test_what_is_odd_and_can_be_read_is_answered(server: Running, tmp_path: Path, name: str) -> None:
    say, words = SAID[name]
    found, text = await ask(server, tmp_path, "/v1/completions", _EVENTS + say)
    assert (found, json.loads(text)["response"]) == (200, words), text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions"])
async def test_an_address_that_says_nothing_is_told_in_time(server: Running, tmp_path: Path, path: str) -> None:
    found, text = await ask(server, tmp_path, path, _silent)
    assert (found, "answer" in text) == (502, True), text


async def test_the_key_goes_to_its_own_address_and_to_no_other(server: Running, tmp_path: Path) -> None:
    async with stranger("", b"") as (other, other_host):
        there = answer(b"", "307 Temporary", head=f"Location: http://{other_host}/v1/completions\r\n")
        found, text = await ask(server, tmp_path, "/v1/completions", there)
        assert (found, "not followed" in text) == (500, True), text
        assert other.seen == b""


async def test_log_probabilities_that_are_none_are_left_out(server: Running, tmp_path: Path) -> None:
    odd = {"tokens": ["token_id:" + "9" * 5000, "b"], "token_logprobs": [None], "top_logprobs": [{"x": -1.0}, None, None]}
    async with stranger("/v1/completions", _EVENTS + event("ab", logprobs=odd) + END) as (_, host):
        door = Door(server, FakeVllm(), vllm.write_folder(tmp_path / "folder"))
        assert (await door.create(f"vllm://{host}"))[0] == 200
        assert (await door.generate(prompt="x", logprobs=True, top_logprobs=1))["response"] == "ab"
