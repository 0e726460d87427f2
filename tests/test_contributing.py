"""CONTRIBUTING.md names what there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_variable_of_the_tests_is_told_and_no_other() -> None:
    sources = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    used = {name for path in sources for name in re.findall(r"SEROW_(?:TEST|FUZZ)_[A-Z_]*[A-Z]", path.read_text())}
    assert set(re.findall(r"^\| `(SEROW_\w+)", PAGE, re.MULTILINE)) == used


def test_every_file_that_is_named_is_there() -> None:
    for name in re.findall(r"`((?:src|tests|scripts|docs|\.ci)/[\w./]+)`|(?<!\w)(scripts/\w+)", PAGE):
        path = ROOT / (name[0] or name[1]).rstrip("/")
        assert path.exists(), name
