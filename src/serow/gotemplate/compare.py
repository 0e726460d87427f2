"""Go's comparisons: eq, lt and what follows from them. Numbers of different kinds do not compare, signed and unsigned do."""

from typing import Any

from serow.gotemplate.complaint import Complaint
from serow.gotemplate.values import Kind, Struct, encode, is_nil, kind, type_name

_INTEGERS = (Kind.INT, Kind.UINT)
_BASIC = (Kind.BOOL, Kind.COMPLEX, Kind.FLOAT, Kind.STRING, *_INTEGERS)


def equal(a: Any, b: Any) -> bool:
    """Go's ==; raises Complaint for values that do not compare. nil equals only nil."""
    kinds = kind(a), kind(b)
    if Kind.NIL in kinds:
        return is_nil(a) and is_nil(b)
    if kinds[0] in _BASIC or kinds[1] in _BASIC:
        if kinds[0] is not kinds[1] and not all(found in _INTEGERS for found in kinds):
            raise _incompatible(a, b)
        return bool(a == b)
    if kinds[0] is not kinds[1]:
        raise Complaint(f"non-comparable types {type_name(a)} and {type_name(b)}")
    if is_nil(a) or is_nil(b):
        return is_nil(a) and is_nil(b)
    if not _is_comparable(b):
        raise Complaint(f"non-comparable type {type_name(b)}")
    return bool(a == b)


def less(a: Any, b: Any) -> bool:
    """Go's <, for integers, floats and strings; raises Complaint for others."""
    kinds = kind(a), kind(b)
    if not all(found in _BASIC for found in kinds):
        raise Complaint("invalid type for comparison")
    if kinds[0] is not kinds[1] and not all(found in _INTEGERS for found in kinds):
        raise _incompatible(a, b)
    if kinds[0] in (Kind.BOOL, Kind.COMPLEX):
        raise Complaint("invalid type for comparison")
    return encode(a) < encode(b) if kinds[0] is Kind.STRING else bool(a < b)


def _incompatible(a: Any, b: Any) -> Complaint:
    return Complaint(f"incompatible types for comparison: {type_name(a)} and {type_name(b)}")


def _is_comparable(value: Any) -> bool:
    if isinstance(value, Struct):
        return all(_is_comparable(field) for field in value.fields.values())
    return kind(value) not in (Kind.SLICE, Kind.MAP)
