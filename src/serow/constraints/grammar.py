"""Grammars for the engine, in llguidance's Lark, and what llguidance says of them before the engine is asked.

The engine answers a grammar that it refuses with unconstrained text, so the package must be of the version that the engine
is built with. Sources: llguidance docs/syntax.md, docs/json_schema.md.
"""

import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from serow.constraints.keywords import Schema

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

_HEADER = "%llguidance {}\n"
# fixed, since the engine's version lets an optional whitespace run on
_WHITESPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_SLOWEST = 0.2  # seconds, since all streams of the engine wait as long; of 485 schemas from practice none takes 0.1 s
_MAX_SYMBOLS = 15_000  # the engine compiles each request's grammar while all its streams wait
_MAX_MESSAGE = 200


def of_schema(schema: dict[str, Any]) -> str:
    """The grammar of JSON texts that fit a schema: one space after each comma and colon, no other whitespace."""
    if schema.keys() - {"$defs"} == {"const"}:  # llguidance rounds the numbers of one
        return of_lark(f"start: {json.dumps(json.dumps(schema['const'], ensure_ascii=False))}")
    return f"{_HEADER}start: %json {json.dumps({**schema, 'x-guidance': _WHITESPACE})}"


def of_regex(regex: str) -> str:
    """The grammar of texts that a regular expression matches whole."""
    from llguidance import regex_to_lark

    return f"{_HEADER}start: /{regex_to_lark(regex, use_ascii='')}/"


def of_lark(lark: str) -> str:
    """A Lark grammar as the engine takes it: the header is how it tells Lark from GBNF."""
    return lark if lark.startswith("%llguidance") else _HEADER + lark


@cache
def _tokenizer() -> "LLTokenizer":
    """One token for each byte: what a grammar accepts does not depend on a model."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


@cache
def _limits() -> "LLParserLimits":
    from llguidance import LLParserLimits

    return LLParserLimits(max_grammar_size=_MAX_SYMBOLS)


def _matcher(grammar: str) -> "LLMatcher":
    from llguidance import LLMatcher

    return LLMatcher(_tokenizer(), grammar, log_level=0, limits=_limits())


def refusal(grammar: str) -> str:
    """Why llguidance can't follow a grammar; "" when it can. Native code that lets other threads run."""
    start = time.thread_time()
    matcher = _matcher(grammar)
    if not matcher.is_error():
        matcher.compute_bitmask()
    is_slow = not matcher.is_error() and time.thread_time() - start > _SLOWEST
    return "it would keep the engine busy for too long" if is_slow else matcher.get_error()


def is_unsatisfiable(reason: str) -> bool:
    """Whether a refusal says that no text can fit, and not that llguidance can't follow."""
    return "nsatisfiable" in reason


def sentence(reason: str) -> str:
    """The first line of a refusal, short enough for a message to a client."""
    line = reason.partition("\n")[0]
    return line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]}…"


def schema_refusal(schema: Schema) -> str:
    """`refusal` of a schema's grammar."""
    return refusal(of_schema(schema if isinstance(schema, dict) else {"allOf": [schema]}))


def accepts(grammar: str, text: str) -> bool:
    """Whether a whole text fits a grammar."""
    matcher, tokens = _matcher(grammar), list(text.encode(errors="replace"))
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()
