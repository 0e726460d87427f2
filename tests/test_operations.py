"""What docs/operations.md says of settings is what there is."""

import re
from pathlib import Path

from serow.settings import VARIABLES

PAGE = Path(__file__).parent.parent / "docs" / "operations.md"
OF_CLIENTS = {"API_KEY"}


def test_every_setting_on_the_page_exists_and_every_limit_is_there() -> None:
    named = set(re.findall(r"SEROW_([A-Z_]+)", PAGE.read_text())) - OF_CLIENTS
    names = {variable.name for variable in VARIABLES}
    limits = {name for name in names if name.startswith("MAX_")} - {"MAX_LOADED_MODELS"}
    assert limits | {"READ_TIMEOUT", "WRITE_TIMEOUT"} <= named <= names
