"""`serow serve`."""

import errno
import math
import socket
import sys
from pathlib import Path

import click

from serow import settings
from serow.cli import state
from serow.cli.advice import advise
from serow.cli.help import Command
from serow.errors import SerowError
from serow.system.units import binary_size

_MEANT_FOR_ALL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")  # where local clients find a server
_PATIENCE = 2.0  # seconds
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def default(variable: settings.Variable) -> str:
    """What holds where nothing is set, as one would write it; "" for nothing."""
    found = settings.Settings()
    value = getattr(found, variable.field)
    if variable.field == "host":
        return f"{found.host}:{found.port}"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Path):
        return state.shown(value)
    if isinstance(value, float):
        unit = next((unit for unit in ("h", "m") if value and value % _SECONDS[unit] == 0), "s")
        return "0" if value == math.inf else f"{value / _SECONDS[unit]:g}{unit}"
    if variable.read is settings.size and value:
        return binary_size(value).replace(".0", "").replace(" ", "")
    return str(value) if isinstance(value, int) else value or ""


def _row(variable: settings.Variable) -> tuple[str, str]:
    return f"SEROW_{variable.name}", f"{variable.help}  [default: {found}]" if (found := default(variable)) else variable.help


_ENVIRONMENT = [_row(variable) for variable in settings.VARIABLES]


@click.command(cls=Command, sections={"Environment (SEROW_… or OLLAMA_…)": _ENVIRONMENT})
@click.option("--log-file", type=click.Path(path_type=Path), hidden=True, help="Of a server in the background: kept small.")
def serve(log_file: Path | None) -> None:
    """Start the server and stay in front; Ctrl-C ends it."""
    from serow.engines.home import EngineHome, forced
    from serow.server import app, log

    found = settings.load()
    try:
        EngineHome(found.engines).register()
        forced(found)
        _check_address(found.host, found.port)
        _make_store(found.models)
        advise()
        app.serve(found, log_file)
    except SerowError as error:
        if found.log != "json":
            raise
        log.tell_failure(error)
        sys.exit(1)


def _check_address(host: str, port: int) -> None:
    """Raise SerowError when nobody can listen there, before anything is set up."""
    if host in _MEANT_FOR_ALL and (who := _who_answers(port)):
        raise SerowError(
            f"{who} answers on port {port} already", hint=f"choose another address in SEROW_HOST, as 127.0.0.1:{port + 1}"
        )
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        socket.create_server((str(address[0]), port), family=family).close()
    except OSError as error:
        reason = (error.strerror or "unknown fault").partition(" (")[0].lower()
        is_taken = error.errno == errno.EADDRINUSE
        hint = f"{'does a server run already? see: serow ps; or ' if is_taken else ''}choose another address in SEROW_HOST"
        raise SerowError(f"can't listen on {host}:{port}: {reason}", hint=hint) from error


def _who_answers(port: int) -> str:
    """Who has the port on one of this machine's own addresses: "localhost" may mean either, so two servers would share it."""
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, port), _PATIENCE).close()
        except OSError:
            continue  # nobody, as nearly always: httpx need not be imported
        if who := _name_of(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"):
            return who
    return ""


def _name_of(address: str) -> str:
    """What kind of model server answers there, "" for none."""
    import httpx

    try:
        answer = httpx.get(f"http://{address}/api/version", timeout=_PATIENCE, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return ""
    if not isinstance(answer, dict) or "version" not in answer:
        return ""
    return "a server of Serow" if "serow" in answer else "Ollama"


def _make_store(models: Path) -> None:
    """Raise SerowError when the model store is no directory and can't become one."""
    try:
        models.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "unknown fault").lower()
        raise SerowError(f"can't keep models in {models}: {reason}", hint="choose a directory in SEROW_MODELS") from error
