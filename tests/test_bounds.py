"""The table of bounds can't drift from the page that promises them."""

import re
from pathlib import Path

import pytest

from serow import bounds
from serow.bounds import BOUNDS, Bound
from serow.errors import RequestError
from serow.settings import VARIABLES

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text().partition("## Bounds")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (.+) \| (.+) \| (\d+) \|$", PAGE, re.M)


def test_the_page_has_every_bound() -> None:
    fixed = [row for row in ROWS if not row[1].startswith(("`SEROW_", "half"))]
    assert fixed == [(bound.what, f"{bound.limit:,} {bound.unit}", "400") for bound in BOUNDS]
    assert set(BOUNDS) == {value for value in vars(bounds).values() if isinstance(value, Bound)}


def test_the_page_has_every_setting_that_is_a_bound() -> None:
    named = {row[1].strip("`") for row in ROWS if row[1].startswith("`SEROW_")}
    assert named == {f"SEROW_{variable.name}" for variable in VARIABLES if variable.name.startswith("MAX_")} - {
        "SEROW_MAX_LOADED_MODELS"
    }


def test_what_is_at_a_bound_passes_and_what_is_beyond_is_named() -> None:
    bound = Bound(3, "strings", "`stop`")
    bound.check(3, "x")
    with pytest.raises(RequestError, match="x holds 4 strings, more than the 3 allowed"):
        bound.check(4, "x")
