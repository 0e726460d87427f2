"""Grammars of the client's own: GBNF (llama.cpp) or Lark (llguidance), told apart by their rules' sign."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serow.errors import FormatError

MAX_LENGTH = 20_000  # characters
MAX_NESTING = 100  # brackets within brackets: parsers descend as deep

_GBNF_RULE = re.compile(r"(?m)^[ \t]*+[\w-]++[ \t]*+::=")


def is_gbnf(text: str) -> bool:
    """GBNF says `rule ::= …` where Lark says `rule: …`."""
    return bool(_GBNF_RULE.search(text))


def check_size(text: str) -> None:
    """Raises FormatError for what is too long, or nested so deeply that a parser could run out of stack."""
    if len(text) > MAX_LENGTH:
        raise FormatError(f"invalid format: a grammar longer than {MAX_LENGTH} characters")
    depth = 0
    for char in re.findall(r"[(\[{)\]}]", text):
        depth += 1 if char in "([{" else -1
        if depth > MAX_NESTING:
            raise FormatError(f"invalid format: a grammar with more than {MAX_NESTING} nested groups")


def check_directives(text: str) -> None:
    """A schema inside a grammar would escape the limits that schemas have; raises FormatError."""
    if "%json" in text:
        raise FormatError("invalid format: grammar: %json is not supported, a schema is a format of its own")


def to_lark(text: str) -> str:
    """Raises FormatError that says where the GBNF is wrong."""
    from llguidance.gbnf_to_lark import GbnfToLarkError, GrammarParser, gbnf_to_lark

    try:
        rules = GrammarParser().parse(text)
    except GbnfToLarkError as error:
        raise FormatError(f"invalid format: grammar: {error}") from None
    _check_names(rules)
    lark: str = gbnf_to_lark(text)
    return lark


def _check_names(rules: dict[str, Any]) -> None:
    """The converter's own complaints about names are untyped."""
    from llguidance.gbnf_to_lark import RuleRefNode

    if "root" not in rules:
        raise FormatError('invalid format: grammar: no rule is named "root"')
    for rule in rules.values():
        for node in _below(rule):
            if isinstance(node, RuleRefNode) and node.name not in rules:
                raise FormatError(f'invalid format: grammar: no rule is named "{node.name}"')
    names = Counter("start" if name == "root" else _plain(name) for name in rules)
    if clash := [name for name, count in names.items() if count > 1]:
        raise FormatError(f'invalid format: grammar: more than one rule is called "{clash[0]}" but for case and dashes')


def _plain(name: str) -> str:
    """Lark's case says whether a rule is a terminal: the converter changes it, and dashes."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name.replace("-", "_")).lower()


def _below(node: Any) -> Iterator[Any]:
    for child in node.children():
        yield child
        yield from _below(child)
