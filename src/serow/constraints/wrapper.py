"""What is no schema though it is an object: another API's wrapper around one, or names that constrain nothing."""

import json
from typing import Any

from serow.constraints.drafts import modern
from serow.errors import FormatError

_INNER = ("schema", "json_schema", "response_format", "format", "parameters", "input_schema", "jsonSchema", "responseSchema")
_TYPES = ("json_schema", "json_object", "json", "text", "regex", "grammar", "structural_tag")  # of response formats elsewhere
_EXPECTED = 'expected "json" or a JSON Schema such as {"type": "object", "properties": …}'
_MOST_SHOWN = 60


def refuse_wrapper(source: dict[str, Any]) -> None:
    """Raises FormatError that says what was expected; `{}` is a schema, that of any JSON value."""
    kind = source.get("type")
    inner = next((key for key in _INNER if isinstance(source.get(key), dict)), None)
    if isinstance(kind, str) and kind in _TYPES:
        advice = f'give what is in "{inner}" alone' if inner else 'give "json"' if "json" in kind else "leave it out"
        raise FormatError(f'invalid format: {{"type": "{kind}"}} is how another API says it: {advice}; {_EXPECTED}')
    if source and not _constrains(source):
        if inner is not None:
            raise FormatError(f'invalid format: give what is in "{inner}" alone, without what is around it; {_EXPECTED}')
        shown = json.dumps(list(source)[:3], ensure_ascii=False)[1:_MOST_SHOWN].rstrip("]")
        verb = "constrains" if len(source) == 1 else "constrain"
        raise FormatError(f"invalid format: {shown} {verb} nothing; {_EXPECTED}")


def _constrains(source: dict[str, Any]) -> bool:
    """Whether a keyword of any draft is in it."""
    return any(key != "x-strict" for key in modern(source))
