"""What crosses the socket between the ImageRunner and its child.

`GET /health` answers 200. `POST /draw` takes a `base.ImageRequest` as JSON and answers with one `Event` a line: one for each
step, then one with the picture or with a fault. Blank lines say that the child still works.
"""

from typing import Literal

from msgspec import Struct

from serow.engines.base import ImageChunk

INTERVAL = 0.2  # seconds; steps that come faster are told together, so that telling them takes nothing from the drawing
HEARTBEAT = 15.0  # seconds of silence before a blank line; a step of a large model on a CPU takes minutes
FAULT = "fault: "  # begins the line on the child's stderr that says why the pipeline could not be loaded


class ImageSpec(Struct, frozen=True, kw_only=True):
    """Which pipeline to load, and where. The numbers are those of `LoadOptions`.

    `device` is torch's name of the one that was planned, "" where nobody has; `is_offloaded`: its parts take turns there.
    """

    folder: str
    num_gpu: int = -1
    main_gpu: int = 0
    num_thread: int = 0
    device: str = ""
    is_offloaded: bool = False
    name: str = ""  # what the text in its pictures calls it; "": they have none


class Fault(Struct, frozen=True):
    """Why there is no picture: the request's fault, one that is too large, memory that ended on the way, or the pipeline's."""

    kind: Literal["request", "size", "memory", "engine"]
    message: str
    trace: str = ""  # for the log
    param: str = ""  # the field at fault


class Event(Struct, frozen=True, omit_defaults=True):
    """One line of an answer."""

    chunk: ImageChunk | None = None
    fault: Fault | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing follows it."""
        return self.chunk is None or bool(self.chunk.images)
