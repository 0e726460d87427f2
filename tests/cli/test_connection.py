"""Why no server answers: one diagnosis for every command."""

import io
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serow import __version__
from serow.cli import client, diagnosis, server
from serow.cli.main import main

from .fake_server import Answers, answering, mute

PAGE = (200, "text/html; charset=utf-8", "<html><body>Welcome to the router!</body></html>")
OURS: Answers = {"/api/version": {"version": "0.33.0", "serow": __version__}}
COMMANDS = (
    ("list",), ("ps",), ("show", "m"), ("stop", "m"), ("cp", "a", "b"), ("rm", "m"), ("pull", "m"), ("run", "m", "Hi"),
)  # fmt: skip


def said_by(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str, *args: str) -> str:
    """What a command that fails says on stderr."""
    monkeypatch.setenv("SEROW_HOST", host)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as caught:
        main(args)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (1, "")
    return err


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_names_what_is_no_model_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    with answering({"*": PAGE}) as host:
        said = said_by(capsys, monkeypatch, host, *args)
    assert said == f"error: what answers at http://{host} is no model server: it sends a web page\nhint: see SEROW_HOST\n"


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_waits_a_while_and_no_longer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    for module in (client, diagnosis, server):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
    with mute() as host:
        said = said_by(capsys, monkeypatch, host, *args)
    assert said.startswith(f"error: no answer from http://{host} within ")


def test_ten_seconds_are_waited_for() -> None:
    assert diagnosis.CONNECT_TIMEOUT == 10


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_names_a_host_that_is_not_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    said = said_by(capsys, monkeypatch, "nowhere.invalid", *args)
    assert said == 'error: the name "nowhere.invalid" is not found\nhint: see SEROW_HOST, and whether this machine is online\n'


@pytest.mark.parametrize(
    "answer, text",
    [
        ((404, "text/plain", "404 page not found"), "is no model server: it sends status 404"),
        ((502, "text/html", "<h1>Bad gateway</h1>"), "is no model server: it sends a web page"),
        ((200, "application/json", "[1]"), "is no model server: it sends status 200"),
        ((200, "application/json", '{"version": 5}'), "is no model server: it sends status 200"),
        ((200, "application/json", '{"swagger": "2.0"}'), "is no model server: it sends status 200"),
        ((403, "text/plain", ""), 'refuses requests for the name "127.0.0.1"'),
        ((301, "text/plain", "http://127.0.0.1:9/api/version"), "no server answers at"),
    ],
)
def test_what_answers_wrongly_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, str], text: str
) -> None:
    with answering({"/api/version": answer}) as host:
        assert text in said_by(capsys, monkeypatch, host, "list")


@pytest.mark.parametrize("status", [405, 501, 502])
def test_a_page_in_the_place_of_an_answer_is_named_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with answering(
        {"/api/version": OURS["/api/version"], "*": (status, "text/html", "\n<!DOCTYPE HTML>\n<html>no</html>")}
    ) as host:
        said = said_by(capsys, monkeypatch, host, "list")
    text = f"error: a web page with status {status} came instead of an answer"
    assert said == f"{text}\nhint: see SEROW_HOST, and what lies between\n"


def test_a_server_that_sends_elsewhere_is_named_with_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        answering(OURS) as there,
        answering({"/api/version": (301, "text/plain", f"http://{there}/api/version")}) as host,
    ):
        said = said_by(capsys, monkeypatch, host, "list")
    assert said == f"error: http://{host} sends elsewhere, to http://{there}\nhint: SEROW_HOST=http://{there}\n"


def test_ollama_is_used_and_said_to_be_no_serow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"/api/version": {"version": "0.12.3"}, "/api/tags": {"models": []}}) as host:
        monkeypatch.setenv("SEROW_HOST", host)
        with pytest.raises(SystemExit) as caught:
            main(["list"])
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    assert out.startswith("NAME")
    assert err.splitlines()[0] == f"note: what answers at http://{host} is Ollama 0.12.3, not Serow: its models are used"
    assert err.splitlines()[1].startswith("hint: ")


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_serve_does_not_share_a_port_with_ollama(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with answering({"/api/version": {"version": "0.12.3"}}) as host:
        port = host.partition(":")[2]
        said = said_by(capsys, monkeypatch, f"{address}:{port}", "serve")
    assert said.startswith(f"error: Ollama answers on port {port} already\nhint: ")


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate signed by itself, and its key."""
    cert, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    kind = f"IP:{name}" if name[0].isdigit() else f"DNS:{name}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key),
         "-out", str(cert), "-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}", "-days", "1"],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    return cert, key


@contextmanager
def tls(cert: Path, key: Path) -> Iterator[str]:
    """A server that makes TLS handshakes and says nothing behind them: yields its `host:port`."""
    import threading

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                connection.settimeout(5)
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("name, reason", [("127.0.0.1", "self-signed certificate"), ("other.example", "ip address mismatch")])
def test_a_certificate_that_is_not_trusted_is_told_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, reason: str
) -> None:
    cert, key = certificate(tmp_path, name)
    if name == "other.example":
        monkeypatch.setenv("SEROW_TLS_CERT", str(cert))
    with tls(cert, key) as host:
        said = said_by(capsys, monkeypatch, f"https://{host}", "list")
    assert said.startswith(f"error: the certificate of https://{host} is not trusted: ")
    assert reason in said.lower()


def test_https_and_http_that_are_mixed_up_are_told_with_the_right_address(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tls(*certificate(tmp_path, "127.0.0.1")) as host:
        said = said_by(capsys, monkeypatch, f"http://{host}", "list")
    assert said == f"error: what answers at http://{host} speaks https only\nhint: SEROW_HOST=https://{host}\n"
    with answering(OURS) as host:
        said = said_by(capsys, monkeypatch, f"https://{host}", "run", "m", "Hi")
    assert said == f"error: what answers at https://{host} speaks no https\nhint: SEROW_HOST=http://{host}\n"
