"""Regular expressions of schemas: ECMA-262, as people write them, for readers that are stricter."""

import re

_MOST_REPEATED = 500  # the validator unrolls repetitions: larger ones take long, or are refused after as long

_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_CLASS_THEN_DASH = re.compile(r"(\\[wdsWDS])-(?=[^\]])")
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
