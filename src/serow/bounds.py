"""Every count and size that a request may have, beside those that are settings; checked before work begins.

docs/security.md prints this table, and which answer what is beyond a bound gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from serow.errors import RequestError


@dataclass(frozen=True)
class Bound:
    """At most `limit` of a `unit`; `what` says of what, for people."""

    limit: int
    unit: str
    what: str

    def check(self, size: int, name: str) -> None:
        """Raise RequestError when there are more."""
        if size > self.limit:
            raise RequestError(f"{name} holds {size} {self.unit}, more than the {self.limit} allowed")


MEMBERS = Bound(1000, "members or frames of less than a KiB", "a packed body")
VALUES = Bound(1_000_000, "values", "the JSON of a body")
CONTAINERS = Bound(100_000, "objects and lists", "the JSON of a body")
KEYS = Bound(100_000, "keys", "the JSON of a body, all its objects together")
DEPTH = Bound(100, "levels", "the JSON of a body")
DIGITS = Bound(300, "digits", "a number")
ESCAPES = Bound(8_000_000, "escaped characters", "the JSON of a body")
LETTERS = Bound(16 << 20, "bytes of text that is not plain ASCII", "the JSON of a body")
TEXTS = Bound(300_000, "texts and names", "the JSON of a body")
REST = Bound(16 << 20, "bytes beside its long texts", "the JSON of a body")
FIELDS = Bound(200, "fields", "a body")
WARNINGS = Bound(20, "names", "what `warnings` say was ignored; the rest is counted")
QUOTED = Bound(64, "characters", "a name that `warnings`, an error or the log quotes; the rest is left out")
NAME = Bound(1024, "characters", "a model's name")
DURATION = Bound(100, "characters", "`keep_alive`")
OPTIONS = Bound(200, "names", "`options`")
STOPS = Bound(1000, "strings", "`stop`")
STOP_TEXT = Bound(64 << 10, "characters", "`stop`, all its strings together")
BIASES = Bound(4096, "tokens", "`logit_bias`")
BIAS_TEXT = Bound(64 << 10, "characters", "`logit_bias`, all its texts together")
ADAPTERS = Bound(64, "names", "`adapters` of a picture")
MESSAGES = Bound(10_000, "messages", "`messages`")
TOOLS = Bound(1024, "tools", "`tools`")
INPUTS = Bound(10_000, "texts", "`input` of an embedding")
FILES = Bound(1000, "files", "`files` and `adapters` of a model that is made")
REPEATED = Bound(8 << 20, "bytes", "what an answer of `/v1/responses` repeats of its request")
LICENSES = Bound(100, "texts", "`license` of a model that is made")
MODEL_MESSAGES = Bound(1000, "messages", "`messages` of a model that is made")

BOUNDS = (
    MEMBERS, VALUES, CONTAINERS, KEYS, DEPTH, DIGITS, ESCAPES, LETTERS, TEXTS, REST, FIELDS, WARNINGS, QUOTED, NAME, DURATION,
    OPTIONS, STOPS, STOP_TEXT, BIASES, BIAS_TEXT, ADAPTERS, MESSAGES, TOOLS, INPUTS, FILES, REPEATED, LICENSES, MODEL_MESSAGES,
)  # fmt: skip


def quoted(text: str) -> str:
    """What a client wrote, as far as we repeat it."""
    return text if len(text) <= QUOTED.limit else f"{text[: QUOTED.limit]}…"


def ignored(kind: str, names: Sequence[str]) -> list[str]:
    """What `warnings` say of names that nothing here reads."""
    said = [f'unknown {kind} "{quoted(name)}" was ignored' for name in names[: WARNINGS.limit]]
    rest = len(names) - len(said)
    return [*said, f"{rest} more unknown {kind}s were ignored"] if rest else said
