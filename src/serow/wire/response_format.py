"""What form the answer must have, in OpenAI's words, as an Ask's `format` (OAI-11, RESP-03, ANT-05)."""

from typing import Any

from serow.wire.fields import Fields

_ANY_OBJECT = "json"
_TYPES = ("text", "json_object", "json_schema")


def format_of(fields: Fields | None, *, wrapper: str = "", types: tuple[str, ...] = _TYPES) -> Any:
    """The format of an object with a `type`; the schema stands in `wrapper` ("json_schema" of chat), or beside the type."""
    if fields is None:
        return None
    kind = fields.text("type").strip().lower()
    fields.ignore(["name", "strict", "description"])
    if kind not in types:
        choices = ", ".join(types)
        raise fields.fault("type", f'{fields.at("type")} "{kind}" is not one of {choices}')
    if kind == "json_schema":
        return _schema(fields, wrapper)
    return _ANY_OBJECT if kind == "json_object" else None


def _schema(fields: Fields, wrapper: str) -> dict[str, Any]:
    holder = fields.member(wrapper) if wrapper else fields
    if holder is None:
        raise fields.missing(wrapper)
    schema = holder.mapping("schema")
    if schema is None:
        raise holder.missing("schema")
    return schema
