"""The log: one line for each request and for each event, on stderr, as text for people or as JSON for machines.

What a prompt says is never written, unless SEROW_LOG_PROMPTS asks for it.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from serow import __version__
from serow.errors import SerowError
from serow.server.exchange import Exchange, current
from serow.settings import Settings

logger = logging.getLogger("serow.request")
_faults = logging.getLogger("serow")

_MAX_FILE = 10_000_000  # bytes
_LOGGERS_OF_REQUESTS = ("serow", "uvicorn.error")  # others speak of engines and connections, which outlive a request
_LONGEST = 200  # characters of what a client made up, in a line
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # and what reorders letters
_PLAIN = re.compile(r"[!-~]+")  # printable ASCII without a space


def configure(settings: Settings, file: Path | None = None) -> None:
    """Set up all of Python's logging, once, for a process that serves; of a file, the last two pieces are kept."""
    handler: logging.Handler = RotatingFileHandler(file, maxBytes=_MAX_FILE, backupCount=1) if file else logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if settings.log == "json" else TextFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("serow").setLevel(logging.INFO)
    for name in _LOGGERS_OF_REQUESTS:
        logging.getLogger(name).addFilter(_name_request)
    logging.captureWarnings(capture=True)
    sys.excepthook = partial(_log_fault, "unexpected fault")
    sys.unraisablehook = lambda fault: _log_fault(
        "unexpected fault at an end", fault.exc_type, fault.exc_value, fault.exc_traceback
    )
    threading.excepthook = lambda fault: _log_fault("unexpected fault", fault.exc_type, fault.exc_value, fault.exc_traceback)


def _log_fault(text: str, kind: type[BaseException], fault: BaseException | None, trace: TracebackType | None) -> None:
    """What Python would write on stderr in lines of its own."""
    _faults.error(text, exc_info=(kind, fault or kind(), trace))


def announce(settings: Settings, url: str) -> None:
    """Say on stdout where the server listens: people, and programs that start one, read it there."""
    text = f"serow {__version__} listens on {url}"
    if settings.log == "json":
        record = logging.LogRecord("serow", logging.INFO, "", 0, text, (), None)
        record.fields = {"url": url}
        text = JSONFormatter().format(record)
    print(text, flush=True)


def tell_failure(error: SerowError) -> None:
    """Write why the server did not start, as one object."""
    record = logging.LogRecord("serow", logging.ERROR, "", 0, str(error), (), None)
    record.fields = {"hint": error.hint} if error.hint else {}
    print(JSONFormatter().format(record), file=sys.stderr)


def request_logger(settings: Settings) -> Callable[[Exchange], None]:
    """What writes the line of a request that is over."""

    def write(exchange: Exchange) -> None:
        level = logging.ERROR if exchange.status >= 500 else logging.INFO
        fields = dict(_fields(exchange, with_prompt=settings.log_prompts))
        logger.log(level, "request", extra={"fields": fields})

    return write


def _fields(exchange: Exchange, *, with_prompt: bool) -> Iterator[tuple[str, Any]]:
    """What is to be said; durations in seconds, counts in tokens. Errors that are the client's fault may quote the client."""
    timeline = exchange.timeline
    yield from (("method", exchange.method), ("path", _clipped(exchange.path)), ("status", exchange.status))
    yield "duration", round(exchange.duration / 1e9, 4)
    if exchange.model:
        yield "model", _clipped(exchange.model)
    if timeline.loaded_at:
        yield "prompt_eval_count", timeline.prompt_eval_count
        yield "prompt_cached_count", timeline.prompt_cached_count
        yield "eval_count", timeline.eval_count
    if exchange.error is not None and exchange.status >= 500:
        yield "error", str(exchange.error)
    if with_prompt and exchange.prompt:
        yield "prompt", exchange.prompt
    yield from (("client", exchange.client), ("request_id", exchange.id))


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _name_request(record: logging.LogRecord) -> bool:
    if request_id := current().id:
        record.fields = {"request_id": request_id}
    return True


class TextFormatter(logging.Formatter):
    """`time LEVEL message name=value …`; a value that is not plain is quoted, so that no client writes a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the traceback if there is one."""
        fields = getattr(record, "fields", {})
        said = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        parts = (_time(record), record.levelname, _indented(record.getMessage()), said)
        line = " ".join(part for part in parts if part)
        return f"{line}\n{_written_out(self.formatException(record.exc_info))}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the fields, `traceback` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and '"' not in text else json.dumps(text)


def _indented(text: str) -> str:
    """What follows a line break is set apart from lines of ours; other control characters are written out."""
    return _written_out(text).replace("\n", "\n    ")


def _written_out(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
