"""Pipelines of diffusers by what their code says, without importing it: torch takes seconds."""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any


@cache
def _source(name: str) -> ast.ClassDef:
    """The class of that name, from whichever file has it."""
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None and spec.origin is not None
    texts = (path.read_text() for path in (Path(spec.origin).parent / "pipelines").rglob("pipeline_*.py"))
    text = next(each for each in texts if f"\nclass {name}(" in each)
    return next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)


def pipeline(name: str, config: dict[str, Any] | None = None, **parts: dict[str, Any]) -> Any:
    """An object of a class of that name which takes the arguments that the real one takes; `parts` are configurations."""
    source = _source(name)
    methods = {node.name: node for node in source.body if isinstance(node, ast.FunctionDef)}
    call = methods["__call__"]
    arguments = ast.unparse(_plain(call.args))
    namespace: dict[str, Any] = {}
    exec(f"def __call__({arguments}): ...", namespace)  # its defaults are literals
    members = {"__call__": namespace["__call__"]}
    if "do_classifier_free_guidance" in methods:
        members["do_classifier_free_guidance"] = property(lambda _: True)
    made = type(name, (), members)()
    made.config = SimpleNamespace(**(config or {}))
    for part, values in parts.items():
        setattr(made, part, SimpleNamespace(config=SimpleNamespace(**values)))
    return made


def _plain(arguments: ast.arguments) -> ast.arguments:
    """The arguments without their types, and with None for what is no literal."""
    for argument in (*arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    arguments.defaults = [each if isinstance(each, ast.Constant) else ast.Constant(None) for each in arguments.defaults]
    return arguments
