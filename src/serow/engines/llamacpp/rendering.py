"""A worker's side of `chat_templates`: llama.cpp's own interpreter of Jinja, with a model that renders and does nothing else.

The wheel has that interpreter behind its HTTP server only, so a worker asks itself, by a socket of its own.
"""

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from serow.engines.llamacpp.events import Fault
from serow.engines.llamacpp.spec import ENVIRON
from serow.engines.llamacpp.template import ChatTemplate
from serow.errors import ModelFileError, TemplateError
from serow.system.limits import use_one_heap

PRELOAD = ("xllamacpp",)
LARGEST = 64 << 20  # bytes of an answer
_KEPT = 2  # interpreters in one worker
_NUM_CTX, _BATCH = 256, 32
_LOG = 16 << 10  # bytes
_LOG_DELAY, _LAST_WORDS = 0.5, "exiting"  # seconds at most until a thread of the interpreter has written them
_NO_DEVICES = dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"), "")


class Reply(Struct, frozen=True):
    """The text, or the words of an interpreter that did not like the messages."""

    prompt: str = ""
    fault: str | None = None


class _Answer(Struct):
    prompt: str = ""
    error: Fault | None = None


def prepare(file: str, source: str) -> None:
    """Have an interpreter that `render` can use; raises as that does."""
    _interpreter(file, source)


def render(file: str, source: str, body: dict[str, Any]) -> Reply:
    """The text of a conversation: what POST /apply-template answers to `body`.

    `source` is the chat template of `file`, which is one that renders. Raises TemplateError for a template that can't be used,
    ModelFileError for such a file.
    """
    return _interpreter(file, source).ask(body)


class _Interpreter:
    """A server that has nothing to serve but the template, and what speaks to it."""

    def __init__(self, file: str, source: str) -> None:
        self._template = ChatTemplate(source)
        self._key = secrets.token_hex(16)
        self._server: Any = None
        self._address: tuple[str, int] = "", 0
        while self._server is None:
            self._template.body((), {})  # raises when nothing is left to try
            self._address = _free_address(Path(file).parent)  # another one each time: a server that failed leaves its socket
            with _log() as read:
                try:
                    self._server = self._started(file)
                except RuntimeError:
                    log = read()
            if self._server is None and not self._template.fall_back(log):
                raise ModelFileError("the engine can't read the model's vocabulary")

    def _started(self, file: str) -> Any:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = file
        if self._template.override:
            params.chat_template = self._template.override
        host, port = self._address
        params.hostnames, params.port, params.api_keys = [host], port, [self._key]
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = _NUM_CTX, _BATCH, _BATCH, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.n_gpu_layers, params.cache_ram_mib, params.n_threads_http = 0, 0, 1
        params.use_jinja, params.fit_params, params.warmup = True, False, False
        params.ui, params.offline, params.verbosity = False, True, 1
        return xllamacpp.Server(params)

    def ask(self, body: dict[str, Any]) -> Reply:
        body |= self._template.body(body["messages"], body["chat_template_kwargs"])
        data = msgspec.json.encode(body)
        head = f"POST /apply-template HTTP/1.0\r\nAuthorization: Bearer {self._key}\r\nContent-Length: {len(data)}\r\n\r\n"
        with _connected(self._address) as connection:
            connection.sendall(head.encode() + data)
            status, _, rest = _all_of(connection).partition(b"\r\n")
        answer = msgspec.json.decode(rest.partition(b"\r\n\r\n")[2], type=_Answer)
        return Reply(answer.prompt) if b" 200 " in status else Reply(fault=answer.error.message if answer.error else "")


@lru_cache(_KEPT)
def _interpreter(file: str, source: str) -> _Interpreter:
    use_one_heap()
    os.environ.update(ENVIRON | _NO_DEVICES)
    return _Interpreter(file, source)


def _free_address(folder: Path) -> tuple[str, int]:
    """A socket beside the file, where there are such sockets, else a port; sockets of workers that have gone are removed."""
    if sys.platform == "win32":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return "127.0.0.1", probe.getsockname()[1]
    for left in folder.glob("*.sock"):
        with suppress(OSError):
            os.kill(int(left.name.partition("-")[0]), 0)
            continue
        left.unlink(missing_ok=True)
    return str(folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"), 0


def _connected(address: tuple[str, int]) -> socket.socket:
    host, port = address
    if port:
        return socket.create_connection(address)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(host)
    return connection


def _all_of(connection: socket.socket) -> bytes:
    """The whole answer; raises TemplateError when it is too long."""
    answer = bytearray()
    while piece := connection.recv(1 << 20):
        answer += piece
        if len(answer) > LARGEST:
            raise TemplateError(f"the model's chat template writes more than {LARGEST} bytes")
    return bytes(answer)


@contextmanager
def _log() -> Iterator[Callable[[], str]]:
    """What is written to stderr meanwhile, as far as a pipe holds it."""
    reading, writing = os.pipe()
    before = os.dup(2)
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    os.dup2(writing, 2)

    def read() -> str:
        found, end = "", time.monotonic() + _LOG_DELAY
        while _LAST_WORDS not in found and time.monotonic() < end:
            with suppress(BlockingIOError):
                found += os.read(reading, _LOG).decode(errors="replace")
            time.sleep(_LOG_DELAY / 100)
        return found

    try:
        yield read
    finally:
        os.dup2(before, 2)
        for each in (reading, writing, before):
            os.close(each)
