"""The import rule of docs/architecture.md: no step knows a later one."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "serow"
LAYERS = (
    ("errors", "system"),
    ("bounds",),
    ("duration",),
    ("picture_schedulers",),
    ("settings", "keys", "options", "gotemplate", "workers"),
    ("devices", "store", "output.thinking", "output.tags", "output.format", "output.known", "constraints", "images"),
    ("output.source", "output.typed"),
    ("registries",),
    ("engines", "inference.ask", "inference.events", "inference.timeline"),
    ("scheduler", "library", "output"),
    ("prompt", "metrics"),
    ("inference",),
    ("wire",),
    ("server", "cli"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def rank_of(module: str) -> int:
    """The layer of `serow.store.name`: of the longest beginning of its name that has one."""
    parts = module.split(".")[1:]
    return next(RANK[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in RANK)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("serow."):
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    module = ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
    if module not in ("serow", "serow.__main__"):
        assert not {name for name in imports_of(path) if rank_of(name) > rank_of(module)}
