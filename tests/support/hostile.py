"""Values that nobody would send, and bodies in which one place holds one of them.

A value is JSON text, since Python's own encoder can't write most of them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MARK = "\ue000here{}\ue000"

Path = tuple[str | int, ...]  # keys and numbers that lead to a place

VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus one": "-1",
    "a fraction": "1.5",
    "no number": "NaN",
    "infinity": "-Infinity",
    "ten to the 400": "1" + "0" * 400,
    "ten to the 299": "1" + "0" * 299,
    "1e400": "1e400",
    "1e308": "1e308",
    "-1e308": "-1e308",
    "1e-400": "1e-400",
    "minus zero": "-0.0",
    "2 to the 31": "2147483648",
    "2 to the 53": "9007199254740993",
    "2 to the 63": "9223372036854775808",
    "2 to the 64": "18446744073709551616",
    "an empty text": '""',
    "a space": '" "',
    "a raised two": '"²"',
    "arabic digits": '"٣٤"',
    "a text of a number": '"30"',
    "5,000 digits": '"' + "9" * 5000 + '"',
    "a lone surrogate": '"\\ud800"',
    "surrogates the wrong way": '"\\udc00\\ud800"',
    "an emoji": '"\\ud83d\\ude00"',
    "a zero byte": '"\\u0000"',
    "control characters": '"a\\u001b]52;c;x\\u0007\\r\\nb"',
    "a line separator": '"\\u2028\\u0085"',
    "300 letters": '"' + "n" * 300 + '"',
    "200 letters of two bytes": '"' + "é" * 200 + '"',
    "a long text": '"' + "word " * 4000 + '"',
    "a path": '"../../../../etc/passwd"',
    "an absolute path": '"/etc/passwd"',
    "an address": '"http://127.0.0.1:1/x.png"',
    "a digest": '"sha256:' + "0" * 64 + '"',
    "no digest": '"sha256:xyz"',
    "a name with all parts": '"host.example/namespace/name:tag"',
    "a name of slashes": '"//:/"',
    "a template": '"{{ .Prompt }}{{ range .Messages }}{{ .Content }}{{ end }}"',
    "no template": '"{{ if }}"',
    "a template of digits": '"{{ 99999999999999999999 }}"',
    "a template of recursion": '"{{ define \\"a\\" }}{{ template \\"a\\" . }}{{ end }}{{ template \\"a\\" . }}"',
    "a pattern": '"(((((("',
    "base64": '"aGVsbG8="',
    "a data URI": '"data:image/png;base64,aGVsbG8="',
    "a repeated duration": '"' + "0s" * 500 + '"',
    "a duration": '"1h30m"',
    "an empty list": "[]",
    "a list of null": "[null]",
    "lists in a list": "[[[]], [[]]]",
    "a list of mixed things": '[1, "a", null, true, {}, 1.5]',
    "a long list": "[" + ",".join("1" * 2000) + "]",
    "a list of texts": '["a", "", "\\ud800", "²"]',
    "an empty object": "{}",
    "an object with an empty name": '{"": null}',
    "an object with odd names": '{"\\ud800": 1, "__class__": 2, "²": 3, "A": 4, "a": 5}',
    "the same name twice": '{"type": "object", "type": 5}',
    "a schema": '{"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"enum": [1]}}}',
    "a schema of digits": '{"items": [{}], "$ref": "#/items/' + "9" * 5000 + '"}',
    "a schema of large numbers": '{"type": "array", "minItems": 1e300, "maxItems": 9223372036854775808}',
    "a schema of a large repetition": '{"type": "string", "pattern": "^a{' + "9" * 5000 + '}$"}',
    "a schema of itself": '{"$ref": "#"}',
    "99 levels": '{"a":' * 99 + "1" + "}" * 99,
    "90 lists": "[" * 90 + "]" * 90,
    "90 levels of not": '{"not":' * 90 + "{}" + "}" * 90,
    "600 levels and a surrogate": '{"not":' * 600 + '"\\ud800"' + "}" * 600,
}


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something stands in a value: every member of every object and list in it, and the value itself."""
    yield path
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


def with_value(body: dict[str, Any], path: Path, text: str) -> bytes:
    """The body as JSON, with `text` in one place."""
    return with_values(body, {path: text})


def with_values(body: dict[str, Any], texts: Mapping[Path, str]) -> bytes:
    """The body as JSON, with a text in each of some places, none of which is in another."""
    marked: Any = body
    for number, path in enumerate(texts):
        marked = _replaced(marked, path, _MARK.format(number))
    spelled = _spelled(marked)
    for number, text in enumerate(texts.values()):
        spelled = spelled.replace(json.dumps(_MARK.format(number)), text)
    return spelled.encode()


def _replaced(value: Any, path: Path, mark: str) -> Any:
    if not path:
        return mark
    key, rest = path[0], path[1:]
    if value is None or isinstance(value, dict):
        value = value or {}
        return {**value, key: _replaced(value.get(str(key)), rest, mark)}
    assert isinstance(value, list) and isinstance(key, int)
    return [*value[:key], _replaced(value[key], rest, mark), *value[key + 1 :]]


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
