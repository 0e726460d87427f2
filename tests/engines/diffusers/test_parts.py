"""What stands between a pipeline and PyTorch: the checks of `parts_program`, run once in a process that has it imported."""

import ast
import json
from pathlib import Path

import pytest

from tests.engines.diffusers.conftest import Run
from tests.pictures import needs_packages

pytestmark = [needs_packages, pytest.mark.timeout(400)]
PROGRAM = Path(__file__).with_name("parts_program.py")
NAMES = [
    node.name
    for node in ast.parse(PROGRAM.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]


@pytest.fixture(scope="module")
def outcomes(run: Run) -> dict[str, str]:
    found: dict[str, str] = json.loads(run(PROGRAM.name))
    return found


@pytest.mark.req("PIC-06", "PIC-07", "LIFE-05")
@pytest.mark.parametrize("name", NAMES)
def test_the_check_of_a_part_passes(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == ""
