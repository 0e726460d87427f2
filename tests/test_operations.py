"""The operator's page can't drift from the server."""

import re
from pathlib import Path

from serow.cli.serve import default
from serow.settings import VARIABLES, Settings

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text()
SRC = Path(__file__).parents[1] / "src" / "serow"


def test_its_table_of_settings_is_the_table_of_the_server() -> None:
    rows = re.findall(
        r"^\| `SEROW_(\w+)` \| (?:`(.*)`)? \| (.+) \|$", PAGE.partition("## Settings")[2].partition("\n## ")[0], re.M
    )
    assert [(name, text) for name, _, text in rows] == [(variable.name, variable.help) for variable in VARIABLES]
    assert [(name, text) for name, text, _ in rows] == [(variable.name, default(variable)) for variable in VARIABLES]


def test_what_a_default_reads_as_is_the_default() -> None:
    settings = Settings()
    split = {"host": (settings.host, settings.port), "models": (settings.models, *settings.further_models)}
    for variable in VARIABLES:
        value = split.get(variable.field, getattr(settings, variable.field))
        text = default(variable)
        assert (variable.read(text) if text else value or None) == (value if text else None), variable.name


def test_every_number_and_sentence_that_an_alarm_names_is_in_the_code() -> None:
    alarms = PAGE.partition("## What each alarm means")[2].partition("\n## ")[0]
    code = "\n".join(path.read_text() for path in SRC.rglob("*.py"))
    signs = re.findall(r"`([^`]+)`", "\n".join(line.split(" | ")[0] for line in alarms.splitlines() if line.startswith("| ")))
    for sign in signs:
        for part in sign.removeprefix("SEROW_").split(" … "):
            assert part in code, sign
