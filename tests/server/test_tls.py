"""HTTPS by certificate and key files."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import cast

import httpx
import ollama
import pytest

from serow.cli.main import main
from serow.server.bind import tls_options
from serow.server.secure import SecureListener
from serow.settings import SettingError, Settings
from tests.support.server import running_server

if sys.platform != "win32":
    import uvloop

DEADLINE = 30  # seconds


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(["openssl", "req", "-x509", *options, *names, *files], check=True, capture_output=True, timeout=20)
    return certificate, key


@pytest.fixture(scope="module")
def secure(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that speaks HTTPS and asks for the key "sesame"."""
    certificate, key = map(str, pair)
    models = tmp_path_factory.mktemp("secure")
    with running_server(models, SEROW_TLS_CERT=certificate, SEROW_TLS_KEY=key, SEROW_API_KEYS="sesame") as url:
        yield url


@pytest.fixture
def trusted(pair: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pair[0])


def test_the_official_client_speaks_https_with_a_key(
    secure: str, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secure.startswith("https://127.0.0.1:")
    monkeypatch.setenv("OLLAMA_API_KEY", "sesame")
    with ollama.Client(secure, verify=trusted) as client:
        assert client.list().models == []


def test_the_command_line_trusts_the_certificate_it_is_given(
    secure: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEROW_HOST", secure.removeprefix("https://"))
    monkeypatch.setenv("SEROW_API_KEY", "sesame")
    monkeypatch.setenv("SEROW_TLS_CERT", str(pair[0]))
    with pytest.raises(SystemExit) as trusting:
        main(["list"])
    monkeypatch.delenv("SEROW_TLS_CERT")
    monkeypatch.setenv("SEROW_HOST", secure)
    with pytest.raises(SystemExit) as wary:
        main(["list"])
    assert (trusting.value.code, wary.value.code) == (0, 1)
    assert "is not trusted" in capsys.readouterr().err


def test_plain_http_gets_no_answer_there(secure: str, trusted: ssl.SSLContext) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.replace("https", "http"), timeout=20)
    assert httpx.get(secure, verify=trusted, timeout=20).text == "Ollama is running"


@pytest.mark.parametrize("names", [("cert.pem", None), (None, "key.pem"), ("nowhere.pem", "key.pem"), ("key.pem", "cert.pem")])
def test_files_that_will_not_do_are_refused_before_the_start(
    pair: tuple[Path, Path], names: tuple[str | None, str | None]
) -> None:
    certificate, key = (name and pair[0].with_name(name) for name in names)
    with pytest.raises(SettingError, match="TLS") as refused:
        tls_options(Settings(tls_cert=certificate or None, tls_key=key or None))
    assert refused.value.hint and str(pair[0].parent) not in str(refused.value)


def test_without_files_there_is_no_tls() -> None:
    assert tls_options(Settings()) == {}


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(secure: str, trusted: ssl.SSLContext) -> None:
    request = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusted.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", int(secure.rpartition(":")[2])), DEADLINE) as connection:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        tls.write(request)
        connection.sendall(outgoing.read())  # with the client's last words of the handshake
        said = bytearray()
        with suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while not said.endswith(b"}"):
                try:
                    said += tls.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(connection.recv(65536))
    assert said.startswith(b"HTTP/1.1 200 OK")


def test_handshakes_that_nobody_ends_take_the_places_of_their_address_only_and_end_in_time(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = map(str, pair)
    limits = {"SEROW_MAX_CLIENT_CONNECTIONS": "4", "SEROW_READ_TIMEOUT": "2s"}
    with ExitStack() as stack:
        url = stack.enter_context(running_server(tmp_path, SEROW_TLS_CERT=certificate, SEROW_TLS_KEY=key, **limits))
        port = int(url.rpartition(":")[2])
        begun = (b"", b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\xff\x01")
        held = [stack.enter_context(connected(port, data)) for data in begun]
        assert stack.enter_context(connected(port)).recv(1) == b""  # one too many
        assert httpx.get(f"{url}/api/version", verify=ssl.create_default_context(cafile=certificate)).status_code == 200
        for each in held:
            with suppress(ConnectionResetError):
                assert each.recv(100) == b""
        assert answer(stack.enter_context(secured(connected(port), certificate))).startswith(b"HTTP/1.1 200")


def test_a_connection_over_tls_beyond_those_of_its_address_is_told_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = map(str, pair)
    with ExitStack() as stack:
        limit = {"SEROW_MAX_CLIENT_CONNECTIONS": "2"}
        url = stack.enter_context(running_server(tmp_path, SEROW_TLS_CERT=certificate, SEROW_TLS_KEY=key, **limit))
        port = int(url.rpartition(":")[2])
        for _ in range(3):
            held = [stack.enter_context(secured(connected(port), certificate)) for _ in range(2)]
            assert all(answer(each).startswith(b"HTTP/1.1 200") for each in held)
            with secured(connected(port), certificate) as one_too_many:
                assert answer(one_too_many).startswith(b"HTTP/1.1 503")
                assert is_over(one_too_many)
            for each in held:
                answer(each, b"Connection: close\r\n")
                assert is_over(each)
                each.close()


LOOPS = {"asyncio": asyncio.new_event_loop} | ({} if sys.platform == "win32" else {"uvloop": uvloop.new_event_loop})


@pytest.mark.parametrize("loop", LOOPS)
def test_a_listener_hands_over_what_is_secure_and_ends_with_what_is_not(pair: tuple[Path, Path], loop: str) -> None:
    certificate, key = pair
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    made: list[_Greeting] = []

    def make() -> _Greeting:
        made.append(_Greeting())
        return made[-1]

    async def try_it() -> None:
        listener = SecureListener(make, context, Settings(max_client_connections=1))
        await listener.listen("127.0.0.1", 0, 10)
        port = listener.sockets[0].getsockname()[1]
        trusted = ssl.create_default_context(cafile=certificate)
        for _ in range(3):  # one handshake at a time, and a place again when it is over
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")
            assert await reader.read() == b"hello"
            writer.close()
        half, silent = await asyncio.open_connection("127.0.0.1", port)
        refused, other = await asyncio.open_connection("127.0.0.1", port)
        assert await refused.read() == b""
        listener.close()
        await listener.wait_closed()
        with suppress(ConnectionResetError):
            assert await half.read() == b""
        silent.close()
        other.close()
        assert sum(each.was_made for each in made) == 3

    async def in_time() -> None:
        async with asyncio.timeout(DEADLINE):
            await try_it()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(in_time())


class _Greeting(asyncio.Protocol):
    was_made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.was_made = True
        cast(asyncio.Transport, transport).write(b"hello")
        transport.close()


def connected(port: int, data: bytes = b"") -> socket.socket:
    """A connection from another address of this machine, on which some bytes were sent."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), DEADLINE, ("127.0.0.2", 0))
    except OSError:
        pytest.skip("this machine has one loopback address only")
    connection.sendall(data)
    return connection


def secured(connection: socket.socket, certificate: str) -> ssl.SSLSocket:
    return ssl.create_default_context(cafile=certificate).wrap_socket(connection, server_hostname="localhost")


def answer(connection: ssl.SSLSocket, *headers: bytes) -> bytes:
    """The beginning of an answer to a request for the version."""
    connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n" + b"".join(headers) + b"\r\n")
    return connection.recv(4096)


def is_over(connection: ssl.SSLSocket) -> bool:
    """Whether the server has closed, after what it had to say."""
    while connection.recv(1000):
        pass
    return True
