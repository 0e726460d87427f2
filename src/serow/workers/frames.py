"""What crosses the pipes between us and a worker: calls as pickle, since they are ours; replies as plain data, since they
come from a process that ran what strangers wrote.
"""

import struct
from enum import IntEnum
from typing import Any, NamedTuple

LENGTH = struct.Struct("<Q")  # before a call: its bytes
HEAD = struct.Struct(
    "<B?dQ"
)  # before a reply: its kind, whether the worker has grown too large, seconds of CPU time, its bytes


class Call(NamedTuple):
    """A function of ours by name, what it is given, and what it may use: seconds of CPU time, bytes of memory."""

    module: str
    name: str
    args: tuple[Any, ...]
    cpu: float
    memory: int


class Kind(IntEnum):
    """What a reply holds."""

    VALUE = 1  # the function's value as msgpack
    BYTES = 2  # its value, which was bytes
    ERROR = 3  # a SerowError as msgpack: the names of its classes, its text, its hint
    MEMORY = 4  # nothing: there was not enough
    DEPTH = 5  # nothing: it was nested too deeply
    FAULT = 6  # a traceback: an error of ours
