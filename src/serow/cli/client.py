"""The official client of a model server, with what it has no room for."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import httpx
import ollama

from serow.cli.diagnosis import CONNECT_TIMEOUT, is_local


class Record(ollama.GenerateResponse):
    """A record of /api/generate, with what the official client has no field for and would drop."""

    warnings: Sequence[str] = ()
    format_valid: bool | None = None
    images: Sequence[str] = ()
    seed: int | None = None
    preview: str | None = None
    status: str | None = None


class ChatRecord(ollama.ChatResponse):
    """A record of /api/chat, with the same."""

    warnings: Sequence[str] = ()
    format_valid: bool | None = None


class ProgressRecord(ollama.ProgressResponse):
    """A record of /api/create and the like, with what the last one may warn of."""

    warnings: Sequence[str] = ()


class Refused(ollama.ResponseError):
    """An answer that refuses a request and says what to do."""

    def __init__(self, error: str, status_code: int, hint: str) -> None:
        super().__init__(error, status_code)
        self.hint = hint


_RECORDS: dict[Any, Any] = {
    ollama.GenerateResponse: Record,
    ollama.ChatResponse: ChatRecord,
    ollama.ProgressResponse: ProgressRecord,
}


def _raise_refused(response: httpx.Response) -> None:
    """Keep the hint of an answer, which the official client would drop with its headers; raises Refused."""
    if hint := response.headers.get("X-Serow-Hint"):
        raise Refused(response.read().decode(errors="replace"), response.status_code, unquote(hint))


class Client(ollama.Client):
    """The official client, and the calls that it has no room for."""

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(host=host, event_hooks={"response": [_raise_refused]}, **options)

    def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._request(_RECORDS.get(cls, cls), *args, **kwargs)

    def show_all(self, model: str, *, verbose: bool = False, system: str = "", options: dict[str, Any] | None = None) -> Any:
        """The whole body of /api/show, as the wire has it."""
        body = {"model": model, "verbose": verbose, "system": system, "options": options or {}}
        return self._call("POST", "/api/show", json=body).json()

    def has_blob(self, digest: str) -> bool:
        """Whether the server holds a blob."""
        status: int = self._client.head(f"/api/blobs/{digest}").status_code
        return status == httpx.codes.OK

    def send_blob(self, digest: str, chunks: Iterator[bytes]) -> None:
        """Upload a blob."""
        self._call("POST", f"/api/blobs/{digest}", content=chunks)

    def tags(self) -> Any:
        """The whole body of /api/tags, as the wire has it."""
        return self._call("GET", "/api/tags").json()

    def partials(self) -> Any:
        """What unfinished downloads have left."""
        return self._call("GET", "/api/partials").json()

    def devices(self) -> Any:
        """What there is to run on."""
        return self._call("GET", "/api/devices").json()

    def prune(self, *, dry_run: bool, older: str) -> Any:
        """Remove what belongs to no model."""
        return self._call("POST", "/api/prune", json={"dry_run": dry_run, "older": older}).json()

    def remove(self, model: str) -> str:
        """Remove a model; returns what the server warns of, "" for nothing."""
        return str(self._call("DELETE", "/api/delete", json={"model": model}).headers.get("X-Serow-Warnings", ""))

    def freed(self, model: str) -> int:
        """Bytes that deleting a model would free."""
        return int(self._call("DELETE", "/api/delete", json={"model": model, "dry_run": True}).json()["freed"])

    def verify(self, model: str) -> Iterator[ollama.ProgressResponse]:
        """Read files again; progress as the official client has it."""
        return self._progress("/api/verify", {"model": model})

    def create_of(self, body: dict[str, Any]) -> Iterator[ollama.ProgressResponse]:
        """Make a model; progress as the official client has it, which knows fewer fields."""
        return self._progress("/api/create", body)

    def _progress(self, path: str, body: dict[str, Any]) -> Iterator[ollama.ProgressResponse]:
        records: Iterator[ollama.ProgressResponse] = self._request(
            ollama.ProgressResponse, "POST", path, json={**body, "stream": True}, stream=True
        )
        return records

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_local(str(self._client.base_url))

    def greet(self) -> httpx.Response:
        """Ask for the version, to see who is there; raises httpx.HTTPError."""
        answer: httpx.Response = self._client.get("/api/version", timeout=CONNECT_TIMEOUT)
        return answer

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        response: httpx.Response = self._request_raw(method, path, **content)  # type: ignore[no-untyped-call]
        return response
