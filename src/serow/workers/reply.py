"""What a worker replied: a value of the type that the function says, or its error. Nothing of it is believed."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from serow import errors
from serow.errors import LimitExceeded, SerowError
from serow.workers.frames import Kind

T = TypeVar("T")


class WorkerFault(RuntimeError):
    """A function of ours failed in a worker as it never should; the text is its traceback."""


@cache
def _returned(function: Callable[..., Any]) -> Any:
    return get_type_hints(function)["return"]


def result(function: Callable[..., T], kind: Kind, payload: bytes) -> T:
    """The value of a reply, or its error. Nothing of it is believed."""
    match kind:
        case Kind.VALUE:
            return _decoded(payload, _returned(function))  # type: ignore[no-any-return]
        case Kind.BYTES:
            return payload  # type: ignore[return-value]
        case Kind.ERROR:
            names, text, hint = _decoded(payload, tuple[list[str], str, str])
            raise _error_class(names)(text, hint=hint)
        case Kind.MEMORY:
            raise LimitExceeded("needed too much memory")
        case Kind.DEPTH:
            raise LimitExceeded("is nested too deeply")
    raise WorkerFault(payload.decode(errors="replace"))


def _decoded(payload: bytes, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise WorkerFault(f"a worker replied with something else: {error}") from None


def _error_class(names: list[str]) -> type[SerowError]:
    """The class of a worker's error: those that take a text and a hint."""
    known = (errors.PictureError, errors.TemplateError, errors.FormatError, errors.ModelFileError, errors.StoreError)
    return next((each for each in known if each.__name__ in names), errors.RequestError)
