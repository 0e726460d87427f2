"""Regular expressions of schemas: ECMA-262, as people write them, for readers that are stricter."""

import re
from functools import partial

_MOST_REPEATED = 500  # the validator unrolls repetitions: larger ones take long, or are refused after as long

_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_CLASS_THEN_DASH = re.compile(r"(\\[wdsWDS])-(?=[^\]])")
_CONTROLS = [chr(code) for code in range(32)]
_ESCAPED = frozenset([*_CONTROLS, '"', "\\", "\x7f"])
_NEVER = (r"\x{10FFFF}", r"\x{10FFFE}")  # in regex syntax: code points that are no characters
_ATOM = re.compile(
    r"\[(?P<one>\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\.|[^\]\\^])\]"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<atom>\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\.|[^\\])",
    re.DOTALL,
)
_LITERAL_BRACE = re.compile(r"(?<!\\)(?<!\\[pPux])\{(?!\d+(?:,\d*)?\})")


def plain_pattern(pattern: str) -> str:
    """The same pattern without two liberties of ECMA-262's annex B: `[\\w-.]` and a brace that repeats nothing."""
    return _LITERAL_BRACE.sub(r"\\{", _CLASS_THEN_DASH.sub(r"\1\\-", pattern))


def is_above(digits: str, most: int) -> bool:
    """Whether a number of a pattern is too large; of thousands of digits Python makes none. "" is no number."""
    return len(digits) > 9 or (digits != "" and int(digits) > most)


def is_regex(pattern: str) -> bool:
    """Whether the validator reads a pattern, in a few milliseconds at most."""
    from jsonschema_rs import Draft202012Validator, ValidationError

    if any(is_above(bound, _MOST_REPEATED) for bounds in _REPETITION.findall(pattern) for bound in bounds):
        return False
    try:
        Draft202012Validator({"pattern": pattern})
    except ValidationError:
        return False
    return True


def spelled_for_json(pattern: str) -> tuple[str, ...]:
    """The pattern in one spelling, or in two that hold together what llguidance 1.0.1 would not hold of one.

    Behind a single character that JSON escapes it forgets the rest of a pattern, but not behind a set of characters. So each
    such character becomes a set of itself and one that nobody writes, another one in each spelling. And a set that has every
    control character gets quotes and backslashes along with them, so it loses one that nobody writes.
    """
    spellings = tuple(_ATOM.sub(partial(_spelled, never=never), pattern) for never in _NEVER)
    return spellings if spellings[0] != spellings[1] else spellings[:1]


def _spelled(match: "re.Match[str]", never: str) -> str:
    atom = match["one"] or match["atom"]
    if atom:
        return f"[{atom}{never}]" if _is_escaped_in_json(atom) else match[0]
    try:
        members = re.compile(match[0])
    except re.error:
        return match[0]
    is_blurred = all(map(members.match, _CONTROLS)) and not all(map(members.match, '"\\'))
    return rf"[{match[0]}&&[^\x01]]" if is_blurred else match[0]


def _is_escaped_in_json(atom: str) -> bool:
    """Whether an atom of a regular expression stands for one character that JSON strings hold escaped."""
    if len(atom) == 2 and atom[1].isalnum():
        return atom[1] in "nrtfv"
    return (chr(int(atom[2:], 16)) if len(atom) > 2 else atom[-1]) in _ESCAPED
