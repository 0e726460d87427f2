"""The import rule of docs/architecture.md: no step knows a later one."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "serow"
LAYERS = (
    ("errors", "duration", "system"),
    ("settings", "keys"),
    ("api", "metrics"),
    ("store", "parsers", "constraints", "images"),
    ("registries", "runner"),
    ("template", "engines"),
    ("scheduler", "library"),
    ("timeline",),
    ("job", "completion", "answer", "metrics"),
    ("writing", "drawing"),
    ("generation",),
    ("inference",),
    ("wire",),
    ("server", "cli"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("serow."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    part = path.relative_to(SRC).parts[0].removesuffix(".py")
    later = {name for name in imports_of(path) if RANK[name] > RANK[part]} if part not in ("__init__", "__main__") else set()
    assert not later
