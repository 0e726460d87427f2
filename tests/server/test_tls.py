"""HTTPS by certificate and key files."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import ollama
import pytest

from serow.cli.main import main
from serow.server.bind import tls_options
from serow.settings import SettingError, Settings
from tests.support.server import running_server

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
        answer = bytearray()
        with suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while not answer.endswith(b"}"):
                try:
                    answer += tls.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(connection.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200 OK")
