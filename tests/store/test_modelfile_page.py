"""docs/modelfile.md against the reader of Modelfiles."""

import re
from pathlib import Path

import pytest

from serow.store import modelfile

PAGE = (Path(__file__).parents[2] / "docs" / "modelfile.md").read_text()


def test_the_page_has_every_command() -> None:
    rows = re.findall(r"^\| (`[A-Z`, ]+) \|", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"[A-Z]+", " ".join(rows))) == sorted(modelfile._COMMANDS)


@pytest.mark.parametrize("example", re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_its_examples_are_modelfiles(example: str) -> None:
    assert modelfile.parse(example).warnings == ()
