"""What an engine says it took: the lines of its log about buffers and layers, read as they come.

    load_tensors: offloaded 25/31 layers to GPU
    load_tensors:        CUDA0 model buffer size =   861.53 MiB
    llama_kv_cache:      CUDA0 KV buffer size =    22.50 MiB
    sched_reserve:       CUDA0 compute buffer size =    15.64 MiB

A buffer's name is its device's, or begins with it; what belongs to no device of ours is main memory.
"""

import re
from collections.abc import Sequence

import msgspec

from serow.devices.use import Use

_BUFFER = re.compile(
    rb"(?:^|\s)([A-Za-z][\w.:\[\]-]{0,79}) +(?:(model|KV|RS|compute|output|LoRA) +)?buffer size = +([\d.]{1,15}) MiB"
)
_LAYERS = re.compile(rb"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")
SPENT = re.compile(  # what an engine says that ends for want of memory
    rb"(cuda|hip|rocm)(Malloc failed|Error\w*| error): ?out of memory|out ?of ?device ?memory|failed to allocate \w+ buffer",
    re.IGNORECASE,
)
_CHATTER = re.compile(rb"[\d.]+ [ID] ")  # how its lines begin: a model's own words stand there, too, its name, its template
LOST = re.compile(rb"device ?lost|GPU is lost|no CUDA-capable device|RPC server crashed", re.IGNORECASE)
_MIB = 1 << 20
_LONGEST_LINE = 4096  # bytes
_MOST = 4096  # buffers
_PARTS = {"model": "weights", "LoRA": "weights", "": "weights", "KV": "cache", "RS": "cache"}  # the rest is worked in


class LoadReport:
    """Fed with an engine's log as it comes; knows what was told so far."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._buffers: list[tuple[str, str, int]] = []  # name, part, bytes
        self.num_layers = 0  # on devices, as told first
        self.num_all = 0
        self.is_spent = False  # it has said that memory did not suffice
        self.is_lost = False  # that a device does not answer any more

    def feed(self, piece: bytes) -> None:
        """More of the log."""
        *lines, rest = (bytes(self._line) + piece).split(b"\n")
        self._line = bytearray(rest[-_LONGEST_LINE:])
        for line in lines:
            if not _CHATTER.match(line):
                self.is_spent = self.is_spent or bool(SPENT.search(line))
                self.is_lost = self.is_lost or bool(LOST.search(line))
            self._read(line)

    def _read(self, line: bytes) -> None:
        if not self.num_all and (match := _LAYERS.search(line)):  # a smaller model that guesses tells its own behind it
            self.num_layers, self.num_all = int(match[1]), int(match[2])
        elif (match := _BUFFER.search(line)) and len(self._buffers) < _MOST:
            part = _PARTS.get((match[2] or b"").decode(), "compute")
            self._buffers.append((match[1].decode(), part, _size(match[3])))

    @property
    def size(self) -> int:
        """Bytes of all buffers; 0 of an engine that tells nothing."""
        return sum(size for _, _, size in self._buffers)

    def measured(self, planned: Sequence[Use]) -> tuple[Use, ...]:
        """What devices really hold, with the layers that were planned for each; as planned where nothing is told."""
        if not self._buffers:
            return tuple(planned)
        return tuple(msgspec.structs.replace(use, **self._parts(use)) for use in planned)

    def _parts(self, use: Use) -> dict[str, int]:
        parts = {"weights": 0, "cache": 0, "compute": 0}
        for name, part, size in self._buffers:
            if is_on(name, use):
                parts[part] += size
        return parts


def without_chatter(log: str) -> str:
    """The lines of a log that may tell of a fault: an engine that is to name its buffers tells all that it does besides."""
    return "\n".join(line for line in log.split("\n") if not _CHATTER.match(line.encode()))


def is_on(buffer: str, use: Use) -> bool:
    """Whether a buffer lies on a device: "CUDA1" and "CUDA1_Split" do on CUDA1, "CUDA10" and "CUDA_Host" don't.

    "RPC0[10.0.0.2:50052]" is the first device at that address, whatever number it has here.
    """
    _, _, place = buffer.rstrip("]").partition("[")
    if place:
        return place in re.split(r"[\[\] ]", f"{use.handle} {use.id}")
    rest = buffer.removeprefix(use.handle)
    return buffer.startswith(use.handle) and not rest[:1].isalnum() and not rest.startswith("_Host")


def _size(text: bytes) -> int:
    try:
        return round(float(text) * _MIB)
    except ValueError:
        return 0
