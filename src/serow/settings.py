"""Settings of the server: one table of variables, read once into a frozen object.

Every variable is `SEROW_<NAME>`; `OLLAMA_<NAME>` is the second name, so that an existing setup works unchanged.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from serow.duration import parse_keep_alive
from serow.errors import RequestError

DEFAULT_PORT = 11434


class SettingError(RequestError):
    """A variable holds something it can't hold."""


@dataclass(frozen=True)
class Settings:
    """What the server runs with. Durations in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    models: Path = Path.home() / ".ollama" / "models"
    keep_alive: float = 300.0
    num_parallel: int = 0
    num_thread: int = 0
    max_loaded_models: int = 0
    max_queue: int = 512
    context_length: int = 4096
    origins: tuple[str, ...] = ()
    llama_server: str = ""
    load_timeout: float = 300.0
    stall_timeout: float = 300.0
    max_body: int = 256 << 20
    grace: float = 10.0


def _host(text: str) -> tuple[str, int]:
    """Split `[scheme://]host[:port]` as Ollama reads OLLAMA_HOST."""
    scheme, sep, rest = text.strip().rpartition("://")
    port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if sep else DEFAULT_PORT
    rest = rest.split("/")[0]
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        number = tail.removeprefix(":")
    else:
        host, _, number = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
    if number and not (number.isdigit() and int(number) < 65536):
        raise ValueError("a port from 0 to 65535")
    return host or "127.0.0.1", int(number) if number else port


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seconds(text: str) -> float:
    """A duration with a unit, or a bare number of seconds as OLLAMA_KEEP_ALIVE takes it."""
    try:
        return parse_keep_alive(float(text))
    except ValueError:
        return parse_keep_alive(text)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("a number of zero or more")
    return value


@dataclass(frozen=True)
class Variable:
    """One row of the table: where it lands, how it is read, what it is for."""

    name: str
    field: str
    read: Callable[[str], Any]
    help: str


VARIABLES = (
    Variable("HOST", "host", _host, "address to listen on, host[:port]"),
    Variable("MODELS", "models", lambda text: Path(text).expanduser(), "directory of the model store, in Ollama's layout"),
    Variable("KEEP_ALIVE", "keep_alive", _seconds, "how long an idle model stays in memory: 5m, 1h30m, -1 for ever"),
    Variable("NUM_PARALLEL", "num_parallel", _count, "requests to one model that run together; 0 chooses by memory"),
    Variable("NUM_THREAD", "num_thread", _count, "threads of an engine; 0 is one for each physical core"),
    Variable("MAX_LOADED_MODELS", "max_loaded_models", _count, "models in memory at once; 0 is as many as fit"),
    Variable("MAX_QUEUE", "max_queue", _count, "requests that may wait in the whole server before 503"),
    Variable("CONTEXT_LENGTH", "context_length", _count, "context in tokens when a request names none"),
    Variable("ORIGINS", "origins", _list, "web origins allowed beside the local ones, comma separated"),
    Variable("LLAMA_SERVER", "llama_server", str, "a llama-server executable to run models with instead of the wheel"),
    Variable("LOAD_TIMEOUT", "load_timeout", _seconds, "longest time a model may take to load"),
    Variable("STALL_TIMEOUT", "stall_timeout", _seconds, "how long a working engine may make no progress before it is ended"),
    Variable("MAX_BODY", "max_body", _count, "largest request body in bytes"),
    Variable("GRACE", "grace", _seconds, "how long requests in flight may finish after SIGTERM"),
)


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the table from the environment; raises SettingError that names the variable."""
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        name = next((n for n in (f"SEROW_{variable.name}", f"OLLAMA_{variable.name}") if environ.get(n)), None)
        if name is None:
            continue
        try:
            value = variable.read(environ[name])
        except (ValueError, RequestError) as error:
            raise SettingError(f"{name}={environ[name]!r} does not fit: {error}", hint=variable.help) from None
        if variable.field == "host":
            values["host"], values["port"] = value
        else:
            values[variable.field] = value
    assert values.keys() <= {field.name for field in fields(Settings)}
    return Settings(**values)
