"""Why no server of ours answers: one diagnosis for all commands, in words and with what to do."""

import errno
import socket
import ssl
from collections.abc import Iterator

import httpx

from serow.errors import SerowError

CONNECT_TIMEOUT = 10.0  # seconds
_PROBE_TIMEOUT = 3.0  # seconds
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServerError(SerowError):
    """The server answered with an error, or not at all."""


def is_local(address: str) -> bool:
    """Whether an address is this machine's own."""
    return httpx.URL(address).host in _LOOPBACK


def is_refused(error: BaseException) -> bool:
    """Whether nobody listens where the connection went."""
    return any(isinstance(each, ConnectionRefusedError) for each in _causes(error))


def diagnose(error: Exception, address: str) -> ServerError:
    """The error of a connection to `address` in words."""
    host = httpx.URL(address).host
    if isinstance(error, httpx.ProxyError):
        return ServerError(f"the proxy before {address} fails: {error}", hint="see HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if isinstance(error, httpx.TimeoutException):
        hint = "see SEROW_HOST; a firewall may swallow what is sent there"
        return ServerError(f"no answer from {address} within {CONNECT_TIMEOUT:.0f} s", hint=hint)
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return ServerError(f'the name "{host}" is not found', hint="see SEROW_HOST, and whether this machine is online")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause, address)
        if isinstance(cause, ssl.SSLError):
            return ServerError(f"what answers at {address} speaks no https", hint=f"SEROW_HOST={_with_scheme(address, 'http')}")
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
            return ServerError(f"{host} can't be reached: {(cause.strerror or '').lower()}", hint="see SEROW_HOST")
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return not_serow(address)
    hint = "start it with: serow serve" if is_local(address) else "see SEROW_HOST, and whether the server runs there"
    return ServerError(f"no server answers at {address}", hint=hint)


def misdirected(answer: httpx.Response, address: str) -> ServerError | None:
    """Why an answer to GET /api/version comes from no model server; None for one that does."""
    final = answer.url.copy_with(path="/", query=None)
    if answer.history and (final.scheme, final.host, final.port) != _origin(address):
        there = str(final).rstrip("/")
        return ServerError(f"{address} sends elsewhere, to {there}", hint=f"SEROW_HOST={there}")
    if answer.status_code == httpx.codes.FORBIDDEN and not answer.content:
        host = httpx.URL(address).host
        hint = f"whoever runs it allows the name with SEROW_HOSTS={host}"
        return ServerError(f'the server at {address} refuses requests for the name "{host}"', hint=hint)
    if answer.is_success and version_of(answer):
        return None
    what = "a web page" if "html" in answer.headers.get("Content-Type", "") else f"status {answer.status_code}"
    return not_serow(address, what)


def version_of(answer: httpx.Response) -> dict[str, str]:
    """What a model server says of its version, nothing when it says none."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) and isinstance(body.get("version"), str) else {}


def not_serow(address: str, what: str = "") -> ServerError:
    """Somebody answers, in no way that a model server does: it may want TLS, or be something else."""
    if httpx.URL(address).scheme == "http" and _speaks_tls(address):
        return ServerError(f"what answers at {address} speaks https only", hint=f"SEROW_HOST={_with_scheme(address, 'https')}")
    sent = f": it sends {what}" if what else ""
    return ServerError(f"what answers at {address} is no model server{sent}", hint="see SEROW_HOST")


def _untrusted(error: ssl.SSLCertVerificationError, address: str) -> ServerError:
    reason = error.verify_message.rstrip(".")
    text = f"the certificate of {address} is not trusted: {reason[:1].lower()}{reason[1:]}"
    if "expired" in reason:
        return ServerError(text, hint="whoever runs the server renews it")
    if "mismatch" in reason:
        return ServerError(text, hint="give a name in SEROW_HOST that the certificate holds")
    return ServerError(text, hint="name it, or the authority that signed it, in SEROW_TLS_CERT")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _origin(address: str) -> tuple[str, str, int | None]:
    found = httpx.URL(address)
    return found.scheme, found.host, found.port


def _with_scheme(address: str, scheme: str) -> str:
    return f"{scheme}://{address.partition('://')[2]}"


def _speaks_tls(address: str) -> bool:
    """Whether a TLS handshake succeeds; no certificate is asked for, and nothing is sent."""
    found = httpx.URL(address)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((found.host, found.port or 80), _PROBE_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=found.host),
        ):
            return True
    except OSError:
        return False
