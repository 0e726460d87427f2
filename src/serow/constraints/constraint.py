"""What `format` became: the grammar for the engine, what it can't hold, and what the finished text must fit."""

from typing import Any

import msgspec
from msgspec import Struct

from serow.constraints.validation import fits_grammar, fits_schema


class Constraint(Struct, frozen=True):
    """What a text must be, for engines with llguidance (`grammar`) and, where it can be said so, for those without.

    Plain data: it is made in another process.
    """

    grammar: str  # the engine's `grammar` field
    warnings: tuple[str, ...] = ()
    portable: bytes = b""  # the engine's `json_schema` field as JSON, looser than `grammar`; empty where there is none
    gbnf: str = ""
    document: bytes = b""  # the whole schema as JSON; empty where the grammar says it all

    @property
    def schema(self) -> dict[str, Any] | None:
        """The engine's `json_schema` field."""
        return msgspec.json.decode(self.portable, type=dict[str, Any]) if self.portable else None

    def validate(self, text: str) -> bool:
        """Whether a text fits the whole format, relaxed parts included.

        Worth asking of every finished text, since an engine whose parser outgrows its limits goes on unconstrained. Takes as
        long as the client's schema wants: `service.Constraints` asks elsewhere, within limits.
        """
        return fits_schema(self.document, text) if self.document else fits_grammar(self.grammar, text)
