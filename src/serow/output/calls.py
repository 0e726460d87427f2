"""One tool call while it is read."""

import random
from collections.abc import Callable, Mapping

import msgspec

from serow.inference.ask import Tool
from serow.inference.events import Event, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.output.source import Unreadable

_MOST_SHOWN = 60  # characters of a wrong name in a message
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Call:
    """One call while it is read. A reader tells it name, id and arguments in any order; it tells the events.

    The start is told once the name is known to be a given tool's; pieces of the arguments are told by `flush`.
    """

    def __init__(
        self, index: int, tools: Mapping[str, Tool], ids: set[str], tell: Callable[[Event], None], *, waits_for_id: bool = False
    ) -> None:
        self.tool: Tool | None = None
        self.index = index
        self.has_started = False
        self.stranger = ""  # a name of no given tool, while it is not known whether this is a call
        self._tools = tools
        self._ids = ids
        self._id = ""
        self._tell = tell
        self._waits_for_id = waits_for_id
        self._pieces: list[str] = []
        self._num_told = 0

    @property
    def has_arguments(self) -> bool:
        """Whether any were given."""
        return bool(self._pieces)

    def knows(self, name: str) -> bool:
        """Whether a tool of this name is given."""
        return name in self._tools

    def named(self, name: str) -> None:
        """The call is one of this tool; raises Unreadable when it was not given."""
        tool = self._tools.get(name)
        if tool is None or self.tool is not None:
            shown = name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…"
            raise Unreadable(f'the model called "{shown}", which is no given tool')
        self.tool = tool
        if not self._waits_for_id:
            self._start()

    def identified(self, id: str) -> None:
        """The model's own id; one that came before is not taken, nor one that comes too late."""
        if self.has_started or id in self._ids or not id:
            return
        self._id = id
        if self.tool is not None:
            self._start()

    def add(self, text: str) -> None:
        """A piece of the arguments' JSON text."""
        self._pieces.append(text)

    def flush(self) -> None:
        """Tell the pieces that were not told yet."""
        if self.has_started and self._num_told < len(self._pieces):
            self._tell(ToolCallArguments(self.index, "".join(self._pieces[self._num_told :])))
            self._num_told = len(self._pieces)

    def finish(self) -> None:
        """The call is whole; raises Unreadable when it names no tool or its arguments are not the text of an object."""
        if self.tool is None:
            raise Unreadable("a tool call names no tool")
        if not self._pieces:
            self._pieces.append("{}")
        arguments = "".join(self._pieces)
        _check_object(arguments)
        if not self.has_started:
            self._start()
        self.flush()
        self._tell(ToolCallEnd(self.index, self._id, self.tool.name, arguments))

    def _start(self) -> None:
        assert self.tool is not None
        self._id = self._id or _new_id(self._ids)
        self._ids.add(self._id)
        self.has_started = True
        self._tell(ToolCallStart(self.index, self._id, self.tool.name))


def _check_object(text: str) -> None:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable("the arguments of a tool call are no JSON object") from None


def _new_id(ids: set[str]) -> str:
    while True:
        new = "call_" + "".join(random.choices(_LETTERS, k=8))
        if new not in ids:
            return new
