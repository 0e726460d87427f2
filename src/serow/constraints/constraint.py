"""What `format` became: the grammar for the engine, what it can't hold, and the check of the finished text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Constraint:
    """What a text must be, for engines with llguidance (`grammar`) and, where it can be said so, for those without."""

    grammar: str  # the engine's `grammar` field
    is_valid: Callable[[str], bool] = field(repr=False)
    warnings: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None  # the engine's `json_schema` field; looser than `grammar`
    gbnf: str = ""

    def validate(self, text: str) -> bool:
        """Whether a finished text fits the whole format, relaxed parts included. Microseconds to a few milliseconds.

        Worth asking of every finished text, since an engine whose parser outgrows its limits goes on unconstrained.
        """
        return self.is_valid(text)
