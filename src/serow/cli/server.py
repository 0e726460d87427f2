"""The server that commands speak to: its address, how a client reaches it, and what its errors mean."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import ollama

from serow import settings
from serow.cli.client import Client, Refused
from serow.cli.diagnosis import CONNECT_TIMEOUT, ServerError, diagnose, is_local, is_refused, misdirected, not_serow, version_of
from serow.cli.terminal import tell
from serow.registries.package_index.sources import SOURCES

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is reached
_PAGE = re.compile(r"\s*<(!doctype|html)\b", re.IGNORECASE)


def url(environ: Mapping[str, str] = os.environ) -> str:
    """The server's address from SEROW_HOST or OLLAMA_HOST; raises SettingError."""
    found = settings.load(environ)
    scheme, separator, _ = settings.given("HOST", environ)[1].partition("://")
    if not separator:
        scheme = "https" if found.tls_cert else "http"
    host = _LOOPBACK.get(found.host, found.host)
    return f"{scheme}://[{host}]:{found.port}" if ":" in host else f"{scheme}://{host}:{found.port}"


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
    """What to do about an error of the server; where its answer does not say it."""
    if status == httpx.codes.UNAUTHORIZED:
        return "set SEROW_API_KEY to a key of the server; whoever runs it makes one with: serow key create NAME"
    if status == httpx.codes.FORBIDDEN:
        return "ask whoever runs the server for a key with more scopes"
    if error.startswith("model ") and error.endswith(" not found"):
        return "see what is there: serow list"
    if error == "pull model manifest: file does not exist":
        return "look for its name at ollama.com/library or hf.co; without an account: " + ", ".join(
            source.name for source in SOURCES
        )
    if error.startswith("pull model manifest: Get ") and error.endswith("no such host"):
        return "is this machine online? from a package index there are " + ", ".join(source.name for source in SOURCES)
    if error.endswith("no such host"):
        return "is this machine online, and the registry the one that is meant? its host stands first: HOST/NAMESPACE/MODEL"
    if error.endswith("does not support thinking"):
        return "leave --think out; serow show MODEL lists what it can do"
    if error.startswith("push access denied") or error.endswith("access denied"):
        return _key_hint()
    return ""


def _key_hint() -> str:
    """Which key to add where, or how to log in."""
    from serow.registries.signature import default_path

    try:
        line = default_path().with_name("id_ed25519.pub").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return "log in at the registry: docker login HOST"
    return f"log in at the registry (docker login HOST), or add this key at https://ollama.com/settings/keys: {line}"


def server_error(error: ollama.ResponseError) -> ServerError:
    """An error that the server answered with, and what to do about it."""
    text = error.error or f"the server answered with status {error.status_code}"
    if _PAGE.match(text):
        text = f"a web page with status {error.status_code} came instead of an answer"
        return ServerError(text, hint="see SEROW_HOST, and what lies between")
    own = error.hint if isinstance(error, Refused) else ""
    return ServerError(text, hint=own or _hint(text, error.status_code))


@contextmanager
def server_errors(address: str) -> Iterator[None]:
    """Turn the client's exceptions into a ServerError with a hint."""
    try:
        yield
    except ollama.ResponseError as error:
        raise server_error(error) from error
    except (httpx.ConnectError, httpx.TimeoutException) as error:
        raise diagnose(error, address) from error
    except (ConnectionError, httpx.TransportError) as error:
        raise ServerError("the connection to the server broke", hint="see what it says on its console or in its log") from error
    except UnicodeEncodeError as error:
        raise ServerError(
            "only text that is UTF-8 can be sent", hint="convert it first, as with: iconv -t UTF-8 FILE"
        ) from error
    except ValueError as error:
        raise not_serow(address) from error


@contextmanager
def connect(*, start: bool = False) -> Iterator[Client]:
    """A client of the configured server; with `start`, of one started in the background when none runs here."""
    address = url()
    with client_of(address) as client, server_errors(address):
        _meet(client, address, start=start)
        yield client


def client_of(address: str, *, patience: float | None = None) -> Client:
    """A client that has not spoken yet; loading and pulling take as long as they take, so it waits for ever by default."""
    timeout = httpx.Timeout(patience, connect=patience or CONNECT_TIMEOUT)
    options = {"headers": _headers(), "verify": _certificates(), "trust_env": not is_local(address), "timeout": timeout}
    try:
        return Client(host=address, **options)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ServerError(f"{address} is no address", hint="see SEROW_HOST") from error


def _meet(client: Client, address: str, *, start: bool) -> None:
    """See that a model server is there before anything is asked of it; raises ServerError."""
    try:
        answer = client.greet()
    except httpx.TransportError as error:
        if not (start and is_local(address) and is_refused(error)):
            raise diagnose(error, address) from error
        from serow.cli import background

        background.start(client, address)
        return
    if problem := misdirected(answer, address):
        raise problem
    version = version_of(answer)
    if "serow" not in version:
        tell("note", f"what answers at {address} is Ollama {version['version']}, not Serow: its models are used")
        tell("hint", "for a server of Serow's own set another port: SEROW_HOST=127.0.0.1:11435")
