"""Servers that answer what a test wants, right or wrong, so that the command line meets more than ours."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = Mapping[str, Any]  # by path: a JSON value, a list of records for a stream, or (status, content type, body)


class _Handler(BaseHTTPRequestHandler):
    answers: Answers
    heard: list[tuple[str, bytes]]

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.heard.append((self.path, asked))
        found = self.answers.get(self.path, self.answers.get("*", (404, "text/plain", "404 page not found")))
        if isinstance(found, tuple):
            status, kind, text = found
        elif isinstance(found, list) and b'"stream":false' not in asked.replace(b" ", b""):
            status, kind, text = 200, "application/x-ndjson", "".join(f"{json.dumps(record)}\n" for record in found)
        else:
            status, kind, text = 200, "application/json", json.dumps(found[-1] if isinstance(found, list) else found)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if 300 <= status < 400:
            self.send_header("Location", text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 (names of the base class)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def answering(answers: Answers, heard: list[tuple[str, bytes]] | None = None) -> Iterator[str]:
    """A server with these answers: yields its `host:port`; `heard` gathers paths and bodies."""
    handler = type("_Answering", (_Handler,), {"answers": answers, "heard": [] if heard is None else heard})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mute() -> Iterator[str]:
    """A server that takes connections and says nothing: yields its `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
