"""The server that commands speak to: its address, a client of it, and a server of our own when there is none."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import ollama

from serow import settings
from serow.cli import state
from serow.cli.terminal import say
from serow.errors import SerowError
from serow.registries.package_index.sources import SOURCES

_START_DEADLINE = 30.0  # seconds
_CONNECT_TIMEOUT = 10.0  # seconds
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is reached


class ServerError(SerowError):
    """The server answered with an error, or not at all."""


class Record(ollama.GenerateResponse):
    """A record of /api/generate, with what the official client has no field for and would drop."""

    warnings: Sequence[str] = ()
    format_valid: bool | None = None


class Client(ollama.Client):
    """The official client, and the calls that it has no room for."""

    def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._request(Record if cls is ollama.GenerateResponse else cls, *args, **kwargs)

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

    def ping(self) -> None:
        """Ask for the version, to see whether a server is there."""
        self._call("GET", "/api/version", timeout=_CONNECT_TIMEOUT)

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        response: httpx.Response = self._request_raw(method, path, **content)  # type: ignore[no-untyped-call]
        return response


def url(environ: Mapping[str, str] = os.environ) -> str:
    """The server's address from SEROW_HOST or OLLAMA_HOST; raises SettingError."""
    found = settings.load(environ)
    scheme, separator, _ = settings.given("HOST", environ)[1].partition("://")
    if not separator:
        scheme = "https" if found.tls_cert else "http"
    host = _LOOPBACK.get(found.host, found.host)
    return f"{scheme}://[{host}]:{found.port}" if ":" in host else f"{scheme}://{host}:{found.port}"


def _is_local(address: str) -> bool:
    return httpx.URL(address).host in ("127.0.0.1", "::1", "localhost")


def _headers(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The API key of SEROW_API_KEY; the official client knows OLLAMA_API_KEY."""
    key = environ.get("SEROW_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _certificates() -> bool | ssl.SSLContext:
    """The system's authorities, and the certificate of this machine's server, which may be signed by itself."""
    certificate = settings.load().tls_cert
    if certificate is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise ServerError("the certificate that SEROW_TLS_CERT names can't be read", hint=error.strerror or "") from None
    return context


def _hint(error: str, status: int = 0) -> str:
    """What to do about an error of the server; the wire carries only its sentence."""
    if status == httpx.codes.UNAUTHORIZED:
        return "set SEROW_API_KEY to a key of the server; whoever runs it makes one with: serow key create NAME"
    if status == httpx.codes.FORBIDDEN:
        return "ask whoever runs the server for a key with more scopes"
    if error.startswith("model ") and error.endswith(" not found"):
        return "see what is there: serow list"
    if error == "pull model manifest: file does not exist":
        return "models that can be pulled: " + ", ".join(source.name for source in SOURCES)
    return ""


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn the client's exceptions into a ServerError with a hint."""
    try:
        yield
    except ollama.ResponseError as error:
        text = error.error or f"the server answered with status {error.status_code}"
        raise ServerError(text, hint=_hint(text, error.status_code)) from error
    except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
        if "CERTIFICATE" in str(error.__context__):
            raise ServerError(f"the certificate of {url()} is not trusted", hint="name it in SEROW_TLS_CERT") from error
        raise ServerError(f"no server answers at {url()}", hint="start it with: serow serve") from error
    except httpx.TransportError as error:
        raise ServerError("the connection to the server broke", hint="see what it says on its console") from error
    except UnicodeEncodeError as error:
        raise ServerError("only text that is UTF-8 can be sent") from error
    except ValueError as error:
        raise ServerError(f"what answers at {url()} is not a model server", hint="see SEROW_HOST") from error


@contextmanager
def connect(*, start: bool = False) -> Iterator[Client]:
    """A client of the configured server; with `start`, of one started in the background when none runs here."""
    address = url()
    timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT)  # loading and pulling take as long as they take
    options = {"headers": _headers(), "verify": _certificates(), "trust_env": not _is_local(address), "timeout": timeout}
    with Client(host=address, **options) as client, server_errors():
        if start and _is_local(address) and not _answers(client):
            _start_server(client)
        yield client


def _answers(client: Client) -> bool:
    try:
        client.ping()
    except (ConnectionError, httpx.TransportError):
        return False
    return True


def _start_server(client: Client) -> None:
    """Start `serow serve` in the background and wait until it answers; raises ServerError."""
    log = state.directory() / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serow", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **({"creationflags": 0x208} if sys.platform == "win32" else {"start_new_session": True}),
        )
    say(f"started a server in the background, process {process.pid}, log {state.shown(log)}", err=True)
    deadline = time.monotonic() + _START_DEADLINE
    while not _answers(client):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"the server did not start: {_last_line(log)}", hint=f"its log is {state.shown(log)}")
        time.sleep(0.05)
    process.returncode = 0  # it outlives us on purpose; else Popen warns


def _last_line(log: Path) -> str:
    """What the server said last, without our own marks."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").split("\n")]
    said = [line for line in lines if line and not line.startswith("hint: ")]
    return said[-1].removeprefix("error: ") if said else "it said nothing"
