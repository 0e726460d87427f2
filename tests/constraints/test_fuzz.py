"""Whatever is sent as a format is compiled or refused in words, and never an error of ours."""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serow.constraints import compile_format
from serow.constraints.keywords import KEYWORDS, TYPES
from serow.errors import FormatError
from tests.schemas import ANY_JSON

pytestmark = pytest.mark.req("GEN-12")

_ODD_NUMBERS = [1e308, 10**300, -(2**70), 1e-300, 0.1]
_ODD_TEXTS = ["a", "^a$", '"', "\\", "[", "(?!a)", "\ud800", "\x00", "#", "#/$defs/a", "#/x/²", "date"]
_OLD_KEYS = ["definitions", "$defs", "$id", "$anchor", "$dynamicRef", "dependencies", "additionalItems"]
_NUMBERS = st.integers(-3, 30) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(_ODD_NUMBERS)
_TEXTS = st.text(max_size=6) | st.sampled_from(_ODD_TEXTS)
_KEYS = st.sampled_from([*KEYWORDS, *_OLD_KEYS, "regex", "choice", "grammar"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = inner | st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3)
    return st.dictionaries(_KEYS, values, max_size=4)


_LEAVES = st.sampled_from(sorted(TYPES)).map(lambda name: {"type": name}) | st.booleans() | _NUMBERS | _TEXTS | ANY_JSON
FORMATS = st.recursive(_LEAVES, _schemas, max_leaves=12)


@given(format=FORMATS)
@example(format={"$ref": "#/allOf/" + "9" * 5000, "allOf": [{}]})
@example(format={"properties": {"\ud800": {}}})
@example(format={"pattern": "\ud800"})
@example(format={"const": 10**300, "enum": [10**300]})
@example(format={"multipleOf": 1e-300, "type": "number"})
@example(format={"minLength": 1e300})
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_format_is_compiled_or_refused_in_words(format: Any) -> None:
    try:
        constraint = compile_format(format)
    except FormatError as error:
        assert str(error).startswith("invalid format")
        str(error).encode()
    else:
        assert constraint is None or isinstance(constraint.validate("[1]"), bool)
