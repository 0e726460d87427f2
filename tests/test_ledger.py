"""Every rule of docs/contract*.md is proved by a test that carries its ID.

Recorded exchanges carry IDs too, but only what a test names in its own source counts here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONTRACT = "\n".join(path.read_text() for path in sorted((TESTS.parent / "docs").glob("contract*.md")))
RULES = re.findall(r"^\| ([A-Z]+-\d\d) \|", CONTRACT, re.MULTILINE)


def ids_in(source: str) -> Iterator[str]:
    """The IDs in every `req(...)` of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "req":
            yield from (str(each.value) for each in node.args if isinstance(each, ast.Constant))


PROVED = {each for path in TESTS.rglob("test_*.py") for each in ids_in(path.read_text())}


def test_the_contracts_have_rules() -> None:
    assert len(RULES) == len(set(RULES)) > 25


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_a_test(rule: str) -> None:
    assert rule in PROVED


def test_no_test_carries_an_id_that_there_is_not() -> None:
    assert set(RULES) >= PROVED
