"""Go templates rendered where they keep nobody waiting: short work here, long work in the processes of a pool.

A template says itself how long it takes, and so do the messages that it is given.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVarTuple

from msgspec.json import encode

from serow.errors import LimitExceeded, TemplateError
from serow.gotemplate import Template
from serow.gotemplate.budget import Budget, StepsExceeded
from serow.inference.ask import Tool
from serow.prompt import go
from serow.prompt.turns import Turn
from serow.workers.pool import Limits, Pool

LIMITS = Limits(cpu=1.5, memory=256 << 20, wall=3.0, wait=3.0)
QUICK_STEPS = 1000  # a few milliseconds; a conversation of ten messages takes about as many
QUICK_SOURCE = 4096  # characters, parsed in a few milliseconds
_FEW_TURNS, _SHORT_TOOLS = 200, 16 << 10  # turns, and bytes of tools, that are made ready for a template within a millisecond

_Ts = TypeVarTuple("_Ts")


class Templates:
    """One for a server, or without a pool for what has none."""

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="templates")

    async def ready(self, source: str, client: str = "") -> None:
        """Have a template parsed, so that `go.parsed` returns at once. Raises TemplateError, Unavailable."""
        if self._pool is not None and len(source) > QUICK_SOURCE and not go.is_parsed(source):
            await self._pool.run_here(self._parser, go.parsed, source, client=client, limits=LIMITS)

    async def run(
        self,
        function: Callable[[Template, *_Ts, Budget], str],
        source: str,
        *args: *_Ts,
        client: str = "",
        is_long: bool = False,
    ) -> str:
        """What a function of `go` makes of a template; what it gets may be long. Raises TemplateError."""
        await self.ready(source, client)
        template = go.parsed(source)
        if self._pool is None:
            return function(template, *args, Budget())
        try:
            if not is_long:
                return function(template, *args, Budget(QUICK_STEPS))
        except StepsExceeded:
            pass
        try:
            return await self._pool.run(go.run_named, function.__name__, source, args, client=client, limits=LIMITS)
        except LimitExceeded as error:
            raise TemplateError(f"template: {error.reason}") from None


@dataclass(frozen=True)
class Rendering:
    """Go templates for one client."""

    templates: Templates = field(default_factory=Templates)
    client: str = ""

    async def ready(self, source: str) -> None:
        """`Templates.ready`."""
        await self.templates.ready(source, self.client)

    async def render(self, source: str, turns: Sequence[Turn], think: bool | str | None, tools: Sequence[Tool] = ()) -> str:
        """The prompt of messages, as `go.render` has it."""
        is_long = len(turns) > _FEW_TURNS or sum(len(encode(tool.definition)) for tool in tools) > _SHORT_TOOLS
        given = tuple(turns), think, tuple(tools)
        return await self.templates.run(go.render, source, *given, client=self.client, is_long=is_long)

    async def fill_in(self, source: str, prefix: str, suffix: str) -> str:
        """The prompt of an insert template, as `go.fill_in` has it."""
        return await self.templates.run(go.fill_in, source, prefix, suffix, client=self.client)
