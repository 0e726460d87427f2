"""An object of a request's JSON, read field by field: types are checked, and a fault names the field by its path.

Keys match in any case and null is absent, as everywhere on the wire (GEN-01). What was never read can be named in `warnings`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serow import bounds
from serow.errors import RequestError
from serow.wire.json import decode_object

_MOST_ITEMS = 100_000  # of one list
_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array", dict: "an object"}


def name_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return _NAMES.get(type(value), "null")


class Fields:
    """The fields of an object at `path`; "" is the body itself. `warnings` belongs to the whole body."""

    def __init__(self, raw: Mapping[str, Any], path: str = "", warnings: list[str] | None = None) -> None:
        self.raw = raw
        self._values = {key.lower(): value for key, value in raw.items() if value is not None}
        self._path = path
        self._seen: set[str] = set()
        self.warnings: list[str] = [] if warnings is None else warnings

    @classmethod
    def of_body(cls, body: bytes) -> "Fields":
        """The fields of a request body; `null` is an object without any. Raises RequestError."""
        return cls({} if body[:100].lstrip()[:4] == b"null" else decode_object(body))

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def fault(self, name: str, message: str, code: str = "invalid_value") -> RequestError:
        """An error that names a field."""
        return RequestError(message, param=self.at(name), code=code)

    def mistyped(self, name: str, expected: str, value: Any) -> RequestError:
        """An error for a value of the wrong type."""
        return self.fault(name, f'"{self.at(name)}" must be {expected}, not {name_of(value)}', "invalid_type")

    def missing(self, name: str) -> RequestError:
        """An error for a field that has to be there."""
        return self.fault(name, f'"{self.at(name)}" is required', "missing_required_parameter")

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def ignore(self, names: Sequence[str]) -> None:
        """Take note of fields that change nothing here and need no word."""
        self._seen.update(names)

    def warn_of_unread(self) -> None:
        """Name the fields that nobody asked for."""
        if len(self.warnings) < bounds.WARNINGS.limit:
            self.warnings += bounds.ignored("field", [self.at(name) for name in self._values if name not in self._seen])

    def value(self, name: str) -> Any:
        """A field of any type, None where it is absent."""
        self._seen.add(name)
        return self._values.get(name)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.value(name)
        if value is not None and not isinstance(value, str):
            raise self.mistyped(name, "a string", value)
        return default if value is None else value

    def given_text(self, name: str) -> str:
        """A string that is there; it may be empty."""
        if self.value(name) is None:
            raise self.missing(name)
        return self.text(name)

    def required_text(self, name: str) -> str:
        """A string that is not empty."""
        text = self.text(name)
        if not text:
            raise self.missing(name)
        return text

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean."""
        value = self.value(name)
        if value is not None and not isinstance(value, bool):
            raise self.mistyped(name, "a boolean", value)
        return default if value is None else value

    def integer(self, name: str, low: int | None = None, high: int | None = None) -> int | None:
        """An integer within bounds, None where it is absent."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.mistyped(name, "an integer", value)
        self._check_range(name, value, low, high)
        return value

    def number(self, name: str, low: float | None = None, high: float | None = None) -> float | None:
        """A number within bounds, None where it is absent."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.mistyped(name, "a number", value)
        self._check_range(name, value, low, high)
        return value

    def _check_range(self, name: str, value: float, low: float | None, high: float | None) -> None:
        if (low is None or value >= low) and (high is None or value <= high):
            return
        allowed = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise self.fault(name, f"{self.at(name)} must be {allowed}")

    def items(self, name: str) -> list[Any]:
        """A list, empty where it is absent."""
        value = self.value(name)
        if value is not None and not isinstance(value, list):
            raise self.mistyped(name, "an array", value)
        if len(value or ()) > _MOST_ITEMS:
            raise self.fault(name, f"{self.at(name)} holds more than {_MOST_ITEMS} items")
        return value or []

    def member(self, name: str) -> "Fields | None":
        """The fields of an object, None where it is absent."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.mistyped(name, "an object", value)
        return Fields(value, self.at(name), self.warnings)

    def members(self, name: str, null: Mapping[str, Any] | None = None) -> list["Fields"]:
        """The fields of each object of a list; `null` is what a null among them stands for, if for anything."""
        found = []
        for number, each in enumerate(self.items(name)):
            value = null if each is None else each
            if not isinstance(value, dict):
                raise self.mistyped(f"{name}[{number}]", "an object", value)
            found.append(Fields(value, f"{self.at(name)}[{number}]", self.warnings))
        return found

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object as it came, None where it is absent."""
        value = self.value(name)
        if value is not None and not isinstance(value, dict):
            raise self.mistyped(name, "an object", value)
        return value

    def strings(self, name: str) -> list[str]:
        """A list of strings; an item that is none is named by its number."""
        items = self.items(name)
        for number, value in enumerate(items):
            if not isinstance(value, str):
                raise self.mistyped(f"{name}[{number}]", "a string", value)
        return items
