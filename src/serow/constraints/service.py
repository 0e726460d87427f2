"""Formats compiled and texts judged where they harm nobody: in the processes of a pool, within limits.

What a client's schema, pattern or grammar costs is decided by the client. So both happen elsewhere, and what takes too long
is a FormatError, or for a text a Verdict that says so. Who asks for the same format at the same time waits for the same work,
and what came of it is remembered, refusals too.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serow.constraints import calls, compile
from serow.constraints.calls import Shape
from serow.constraints.constraint import Constraint
from serow.errors import FormatError, LimitExceeded, Unavailable
from serow.workers.pool import Limits, Pool

COMPILING = Limits(cpu=0.6, memory=512 << 20, wall=1.5, wait=3.0)  # of 485 schemas from practice the slowest takes 0.17 s
JUDGING = Limits(cpu=0.5, memory=256 << 20, wall=1.0, wait=3.0)
CACHED_FORMATS = 64
CACHED_BYTES = 64 << 10  # larger formats are compiled each time


@dataclass(frozen=True)
class Verdict:
    """Whether a text fits its format; the warning says why it is not known, or why it does not fit."""

    is_valid: bool
    warning: str = ""
    is_known: bool = True


@dataclass
class _Flight:
    """A format that is being compiled, and how many wait for it."""

    task: "asyncio.Task[Constraint]"
    num_waiting: int = 0


class Constraints:
    """One for a server: `compile` before an answer, `judge` after it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[bytes, Constraint | str] = OrderedDict()  # the longest unused first; text of a refusal
        self._flights: dict[bytes, _Flight] = {}

    async def compile(self, format: Any, client: str = "") -> Constraint | None:
        """The constraint of a decoded `format`; None for none. Raises FormatError that says where, Unavailable."""
        source = compile.encode(format)
        if not source:
            return None
        found = self._known.get(source)
        if found is None:
            found = await self._compiled(source, client)
        else:
            self._known.move_to_end(source)
        if isinstance(found, str):
            raise FormatError(found)
        return found

    async def call_of(self, tools: Sequence[tuple[str, dict[str, Any]]], shape: Shape, client: str = "") -> Constraint | None:
        """What a call of one of the tools is, behind white space; None where nothing can hold it."""
        return await self._first_of(calls.called(tools, shape), client)

    async def arguments_of(self, parameters: dict[str, Any], client: str = "") -> Constraint | None:
        """What the arguments of a tool are, behind white space; any object where its schema can't be followed."""
        return await self._first_of([{"type": "object", **calls.without_notes(parameters)}, {"type": "object"}], client)

    async def fits(self, parameters: dict[str, Any], arguments: str, client: str = "") -> bool:
        """Whether arguments fit the parameters of their tool, as far as that can be found out."""
        try:
            constraint = await self.compile({"type": "object", **calls.without_notes(parameters)}, client)
        except FormatError:
            return True
        verdict = await self.judge(constraint, client, arguments) if constraint else Verdict(True)
        return verdict.is_valid or bool(verdict.warning)

    async def _first_of(self, schemas: Sequence[dict[str, Any]], client: str) -> Constraint | None:
        for schema in schemas:
            try:
                found = await self.compile(schema, client)
            except FormatError:
                continue
            return found and calls.behind_space(found)
        return None

    async def judge(self, constraint: Constraint, client: str, text: str, is_cut: bool = False) -> Verdict:
        """Whether a text, cut by a limit or not, fits its format."""
        try:
            is_valid = await self._pool.run(compile.validate, constraint, text, client=client, limits=JUDGING)
        except LimitExceeded as error:
            return Verdict(False, f"format: the check of the answer {error.reason}, so it is not known to fit", is_known=False)
        except Unavailable:
            busy = "format: the server was too busy to check the answer, so it is not known to fit"
            return Verdict(False, busy, is_known=False)
        if is_cut and not is_valid:
            return Verdict(False, "format: the answer was cut before it was whole, so it does not fit")
        return Verdict(is_valid)

    async def _compiled(self, source: bytes, client: str) -> Constraint | str:
        """Compile, together with all who want the same; ended when nobody waits any more."""
        flight = self._flights.get(source)
        if flight is None:
            flight = self._flights[source] = _Flight(self._compile(source, client))
        flight.num_waiting += 1
        try:
            found: Constraint | str = await asyncio.shield(flight.task)
        except LimitExceeded as error:  # not remembered: the machine may have been busy
            raise FormatError(f"invalid format: compiling it {error.reason}", hint="make it smaller or simpler") from None
        except FormatError as error:
            found = str(error)
        finally:
            flight.num_waiting -= 1
            if not flight.num_waiting:
                self._flights.pop(source, None)
                flight.task.cancel()
        self._remember(source, found)
        return found

    def _compile(self, source: bytes, client: str) -> "asyncio.Task[Constraint]":
        return asyncio.create_task(self._pool.run(compile.compile_source, source, client=client, limits=COMPILING))

    def _remember(self, source: bytes, found: Constraint | str) -> None:
        if len(source) <= CACHED_BYTES:
            self._known[source] = found
            while len(self._known) > CACHED_FORMATS:
                self._known.popitem(last=False)
