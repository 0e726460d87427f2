"""Settings of the server: one table of variables, read once into a frozen object.

Every variable is `SEROW_<NAME>`; `OLLAMA_<NAME>` is the second name, so that an existing setup works unchanged. What is set and
read by nothing is told (`unused`).
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs

from serow.duration import parse_keep_alive
from serow.errors import RequestError

CacheType = Literal["f16", "q8_0", "q4_0"]  # of keys and values

DEFAULT_PORT = 11434
_LONGEST_TIMEOUT = 86400.0  # seconds
_OTHERS = ("SEROW_API_KEY", "OLLAMA_API_KEY", "SEROW_NOHISTORY", "SEROW_FUZZ_EXAMPLES")  # of the command line and of tests
_TESTS = "SEROW_TEST_"
_PEERS = (  # what Ollama reads and we do not: what it is for is chosen here by measuring, or does not exist
    "AUTH", "DEBUG", "DEBUG_LOG_REQUESTS", "EDITOR", "INTEL_GPU", "LIBRARY_PATH", "LLM_LIBRARY", "MAX_VRAM",
    "MULTIUSER_CACHE", "NEW_ENGINE", "NO_CLOUD", "RUNNERS_DIR", "TMPDIR", "VULKAN",
)  # fmt: skip
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class SettingError(RequestError):
    """A variable holds something it can't hold."""


@dataclass(frozen=True)
class Settings:
    """What the server runs with. Durations in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    models: Path = Path.home() / ".ollama" / "models"
    further_models: tuple[Path, ...] = ()  # stores that are read only
    keep_alive: float = 300.0
    num_parallel: int = 0
    num_thread: int = 0
    max_loaded_models: int = 0
    max_queue: int = 512
    context_length: int = 4096
    truncate: bool = False  # OpenAI's routes, whose bodies may say so themselves
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    keys_path: Path | None = None  # None: serow-keys.json in the model store
    allow_open: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    engine: str = ""
    engines: Path = platformdirs.user_data_path("serow") / "engines"
    llama_server: Path | None = None
    engine_build: str = ""
    engine_check: bool = True
    drafts: bool = True
    kv_cache_type: CacheType | Literal[""] = ""
    flash_attention: bool | None = None
    spread: bool = False
    gpu_overhead: int = 0  # bytes that stay free on each GPU
    slots: Path | None = None  # None: in the user's cache
    slot_cache: int = 2 << 30
    vllm: Path | None = None
    load_timeout: float = 300.0
    stall_timeout: float = 300.0
    max_body: int = 64 << 20
    max_in_flight: int = 256 << 20  # bytes of the bodies of all requests that are not answered yet
    max_header: int = 64 << 10
    max_images: int = 32
    max_pixels: int = 50_000_000  # of one picture
    picture_text: bool = True
    max_prompt: int = 4_000_000  # characters
    max_connections: int = 4096
    max_client_connections: int = 0  # 0: half of them
    read_timeout: float = 30.0
    write_timeout: float = 30.0
    grace: float = 10.0
    idle_timeout: float = math.inf
    registries: tuple[str, ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    realms: tuple[tuple[str, str], ...] = ()
    offline: bool = False
    remotes: tuple[str, ...] = ()
    remote_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    pull_connections: int = 4
    pull_rate: int = 0  # bytes a second; 0 is no limit
    partial_age: float = 14 * 86400.0
    noprune: bool = False
    log: str = "text"
    log_prompts: bool = False
    otel: bool = False

    @property
    def key_file(self) -> Path:
        """Where the hashes of the API keys are."""
        return self.keys_path or self.models / "serow-keys.json"

    @property
    def client_connections(self) -> int:
        """How many connections one address may hold."""
        return self.max_client_connections or max(1, self.max_connections // 2)

    @property
    def slot_directory(self) -> Path:
        """Where the slots of unloaded models are saved."""
        return self.slots or platformdirs.user_cache_path("serow") / "slots"


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
    if not (text.isascii() and text.strip().isdigit()):
        raise ValueError("a whole number of zero or more")
    return int(text)


def _patience(text: str) -> float:
    """How long to wait for an engine; zero or less is for ever, as the peer has it."""
    return _seconds(text) or math.inf


def size(text: str) -> int:
    """Bytes, or a number of KiB, MiB, GiB or TiB: "2GiB"."""
    match = re.fullmatch(r"(\d{1,15}) ?([KMGT]iB)?", text.strip(), re.ASCII)
    if match is None:
        raise ValueError("bytes, or a size such as 500MiB or 2GiB")
    return int(match[1]) * _UNITS[match[2] or ""]


def _timeout(text: str) -> float:
    seconds = _seconds(text)
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ValueError("a duration above zero and up to a day")
    return seconds


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("1 or 0, true or false")
    return _FLAGS[text.lower()]


def _connections(text: str) -> int:
    count = _count(text)
    if not 1 <= count <= 64:
        raise ValueError("a whole number from 1 to 64")
    return count


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in _list(text)]
    if not all(separator and name and value for name, separator, value in pairs):
        raise ValueError("pairs such as registry.ollama.ai=https://mirror.lan/ollama, comma separated")
    return tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)


def parse_rate(text: str) -> int:
    """Bytes a second, as 10485760 or "10MiB"; raises ValueError."""
    return size(text.strip().removesuffix("/s"))


def _presence(text: str) -> bool:
    """Whether a variable says yes: any value but those that say no, as the peer reads it."""
    return _FLAGS.get(text.strip().lower(), True)


def _log(text: str) -> str:
    if text.lower() not in ("text", "json"):
        raise ValueError("text or json")
    return text.lower()


def _automatic(text: str) -> str:
    if text.lower() not in ("auto", "0", "off"):
        raise ValueError("auto or off")
    return "auto" if text.lower() == "auto" else ""


def expanded(text: str) -> Path:
    """A path as people write it, `~` and `~user` for homes; raises ValueError for a user that there is none of."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home of {text.partition('/')[0]}") from None


def _cache_type(text: str) -> str:
    if text.lower() not in get_args(CacheType):
        raise ValueError(f"one of {', '.join(get_args(CacheType))}")
    return text.lower()


def _path(text: str) -> Path:
    return expanded(text)


def roots(text: str) -> tuple[Path, ...]:
    """The directories of a list as the system writes them, each once; raises ValueError for none."""
    found = dict.fromkeys(expanded(part.strip()) for part in text.split(os.pathsep) if part.strip())
    if not found:
        raise ValueError("a directory")
    return tuple(found)


@dataclass(frozen=True)
class Variable:
    """One row of the table: where it lands, how it is read, what it is for."""

    name: str
    field: str
    read: Callable[[str], Any]
    help: str


VARIABLES = (
    Variable("HOST", "host", _host, "address to listen on, host[:port]"),
    Variable(
        "MODELS", "models", roots, "directory of the model store, in Ollama's layout; further ones behind : are only read"
    ),
    Variable("KEEP_ALIVE", "keep_alive", _seconds, "how long an idle model stays in memory: 5m, 1h30m, -1 for ever"),
    Variable("NUM_PARALLEL", "num_parallel", _count, "requests to one model that run together; 0 chooses by memory"),
    Variable("NUM_THREAD", "num_thread", _count, "threads of an engine; 0 is one for each physical core"),
    Variable("MAX_LOADED_MODELS", "max_loaded_models", _count, "models in memory at once; 0 is as many as fit"),
    Variable("MAX_QUEUE", "max_queue", _count, "requests that may wait in the whole server before 503"),
    Variable("CONTEXT_LENGTH", "context_length", _count, "context in tokens when a request names none"),
    Variable("TRUNCATE", "truncate", _flag, "1 drops the oldest messages of what is too long on OpenAI's routes, else 400"),
    Variable("ORIGINS", "origins", _list, "web origins allowed beside the local ones, comma separated"),
    Variable("HOSTS", "hosts", _list, "host names that clients may use for this server beside local ones and addresses"),
    Variable("API_KEYS", "api_keys", _list, "keys that may do everything, comma separated; see serow key for more"),
    Variable("KEY_FILE", "keys_path", _path, "where serow key keeps its hashes; else serow-keys.json in the model store"),
    Variable("ALLOW_OPEN", "allow_open", _flag, "1 lets the server listen on a public address without a key"),
    Variable("TLS_CERT", "tls_cert", _path, "certificate chain as PEM; with TLS_KEY the server speaks HTTPS only"),
    Variable("TLS_KEY", "tls_key", _path, "private key of the certificate as PEM, without a passphrase"),
    Variable("ENGINE", "engine", str, "the engine that runs every model, checked or not: wheel, llama.cpp or ik"),
    Variable("ENGINES", "engines", _path, "directory of the engines that serow engine builds"),
    Variable(
        "ENGINE_BUILD",
        "engine_build",
        _automatic,
        "auto lets the server build ik where no fast engine is, at the lowest priority",
    ),
    Variable("ENGINE_CHECK", "engine_check", _flag, "0 lets the server check no engine by itself while nobody asks"),
    Variable("LLAMA_SERVER", "llama_server", _path, "a llama-server executable for every model; ENGINE says of what kind"),
    Variable("DRAFTS", "drafts", _flag, "0 lets no engine guess ahead, though a check saw it pay"),
    Variable("KV_CACHE_TYPE", "kv_cache_type", _cache_type, "type of cached keys and values: f16, q8_0, q4_0; else as checked"),
    Variable("FLASH_ATTENTION", "flash_attention", _flag, "1 or 0 for every model; else as the engine or its check says"),
    Variable("SPREAD", "spread", _flag, "1 splits each model over all GPUs, though one would do"),
    Variable("GPU_OVERHEAD", "gpu_overhead", size, "memory that stays free on each GPU, as 500MiB"),
    Variable("SLOTS", "slots", _path, "directory for prompts whose model left memory; else slots in the user's cache"),
    Variable("SLOT_CACHE", "slot_cache", size, "most disk space for such prompts, as 500MiB or 2GiB; 0 keeps none"),
    Variable("VLLM", "vllm", _path, "environment that has vLLM, or its python: models of safetensors folders run there"),
    Variable("LOAD_TIMEOUT", "load_timeout", _patience, "longest time a model may take to load; 0 is for ever"),
    Variable("STALL_TIMEOUT", "stall_timeout", _patience, "longest time a working engine may make no progress; 0 is for ever"),
    Variable("MAX_BODY", "max_body", size, "largest request body, unpacked"),
    Variable("MAX_IN_FLIGHT", "max_in_flight", size, "most of all bodies that are not answered yet; half for one client"),
    Variable("MAX_HEADER", "max_header", size, "largest request line and headers"),
    Variable("MAX_IMAGES", "max_images", _count, "most pictures in one request"),
    Variable("MAX_PIXELS", "max_pixels", _count, "most pixels of one picture that is sent"),
    Variable("PICTURE_TEXT", "picture_text", _flag, "0 leaves prompt, seed and numbers out of the pictures that are drawn"),
    Variable("MAX_PROMPT", "max_prompt", _count, "longest prompt, system, suffix or template in characters, context in tokens"),
    Variable("MAX_CONNECTIONS", "max_connections", _count, "connections open at once, 503 for those beyond"),
    Variable("MAX_CLIENT_CONNECTIONS", "max_client_connections", _count, "connections of one address; 0 is half of all"),
    Variable("READ_TIMEOUT", "read_timeout", _timeout, "longest time for headers to come; a body brings 500 bytes a second"),
    Variable("WRITE_TIMEOUT", "write_timeout", _timeout, "how long a client may read nothing of its answer"),
    Variable("GRACE", "grace", _seconds, "how long requests in flight may finish after SIGTERM"),
    Variable("IDLE_TIMEOUT", "idle_timeout", _patience, "time without a model or request until the server ends; 0 is for ever"),
    Variable(
        "REGISTRIES", "registries", _list, "registries in private networks that remote clients may name, or *, comma separated"
    ),
    Variable("MIRRORS", "mirrors", _pairs, "what is asked before a registry: registry.ollama.ai=https://mirror.lan/ollama,…"),
    Variable("REALMS", "realms", _pairs, "where a registry's tokens come from, if it is another host: registry.lan=auth.lan,…"),
    Variable("REMOTES", "remotes", _list, "hosts whose engines models may live at, HOST or HOST:PORT, comma separated"),
    Variable("REMOTE_KEYS", "remote_keys", _pairs, "keys of the engines at REMOTES: HOST=KEY,…; each goes to its host alone"),
    Variable("OFFLINE", "offline", _flag, "1 asks nothing outside this machine; HF_HUB_OFFLINE is its second name"),
    Variable("PULL_CONNECTIONS", "pull_connections", _connections, "connections to a registry at a time, 1 to 64"),
    Variable("PULL_RATE", "pull_rate", parse_rate, "most bytes a second that all pulls together take: 10MiB; 0 is no limit"),
    Variable("PARTIAL_AGE", "partial_age", _seconds, "how long an unfinished download is kept after its last byte"),
    Variable("NOPRUNE", "noprune", _presence, "1 lets nothing be removed that no model names any more"),
    Variable("LOG", "log", _log, "text, or json for one JSON object a line"),
    Variable("LOG_PROMPTS", "log_prompts", _flag, "1 writes prompts to the log"),
    Variable("OTEL", "otel", _flag, "1 sends a trace of each request, as the OTEL_… variables say; needs the extra otel"),
)


_OTHER_NAMES = {"OFFLINE": "HF_HUB_OFFLINE", "SPREAD": "OLLAMA_SCHED_SPREAD"}  # second names that are not OLLAMA_<NAME>


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the table from the environment; raises SettingError that names the variable."""
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        name, text = given(variable.name, environ)
        if not text:
            continue
        try:
            value = variable.read(text)
        except (ValueError, RequestError) as error:
            raise SettingError(f"{name}={text!r} does not fit: {error}", hint=variable.help) from None
        if variable.field == "host":
            values["host"], values["port"] = value
        elif variable.field == "models":
            values["models"], values["further_models"] = value[0], value[1:]
        else:
            values[variable.field] = value
    assert values.keys() <= {field.name for field in fields(Settings)}
    settings = Settings(**values)
    if settings.flash_attention is False and settings.kv_cache_type not in ("", "f16"):
        name, other = given("KV_CACHE_TYPE", environ)[0], given("FLASH_ATTENTION", environ)[0]
        raise SettingError(
            f"{name}={settings.kv_cache_type} takes flash attention, and {other} switches it off", hint=f"unset {other}"
        )
    return settings


def given(name: str, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The variable that gives a setting, and its text without the quotes that unit files and Windows leave; "" for none."""
    for variable in (f"SEROW_{name}", _OTHER_NAMES.get(name, f"OLLAMA_{name}")):
        if text := environ.get(variable, "").strip().strip("\"'").strip():
            return variable, text
    return "", ""


def unused(environ: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each variable that is set as if we read it and that nothing reads."""
    known = [variable.name for variable in VARIABLES]
    sentences = []
    for name in sorted(set(environ) - set(_OTHERS)):
        prefix, _, rest = name.partition("_")
        if prefix == "SEROW" and rest not in known and not name.startswith(_TESTS):
            sentences.append(f"{name} is no setting of this server{_alike(rest, known)}")
        elif prefix == "OLLAMA" and rest in _PEERS:
            sentences.append(f"{name} is not used here")
        elif prefix == "OLLAMA" and rest not in known and (alike := _alike(rest, known)):
            sentences.append(f"{name} is not used here{alike}")
    return sentences


def _alike(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, 1, 0.8)
    return f"; is SEROW_{found[0]} meant?" if found else ""
