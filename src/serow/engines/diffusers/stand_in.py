"""Pipelines by what the installed diffusers' own code says of them, read and not run: importing torch takes seconds.

A stand-in has the class's name, the arguments of its call, and the configurations of its parts; nothing else.
"""

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_MOST = 256  # classes that are remembered
_FEW = 4  # classes whose whole code is: megabytes each
_TASKS = {"picture": "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING", "mask": "AUTO_INPAINT_PIPELINES_MAPPING"}
_OF_TEXT = "AUTO_TEXT2IMAGE_PIPELINES_MAPPING"


def stand_in(name: str, config: Mapping[str, Any] | None = None, **parts: Mapping[str, Any]) -> Any:
    """An object of a class of that name; None where the installed diffusers has none, or is not there. Blocks: up to 0.2 s.

    `config` is the pipeline's own configuration, `parts` are those of its parts.
    """
    kind = _class(name)
    if kind is None:
        return None
    made = kind()
    made.config = SimpleNamespace(**(config or {}))
    for part, values in parts.items():
        setattr(made, part, SimpleNamespace(config=SimpleNamespace(**values)))
    return made


def other_form(name: str, task: str) -> str:
    """The class that does another task with the same weights, as diffusers' AutoPipeline has it; "" when there is none."""
    mappings = _mappings()
    of_text, of_task = mappings.get(_OF_TEXT, {}), mappings.get(_TASKS[task], {})
    family = next((key for each in (of_text, *mappings.values()) for key, kind in each.items() if kind == name), "")
    return of_task.get(family, "")


@lru_cache(_MOST)
def is_pipeline(name: str) -> bool:
    """Whether the installed diffusers has a pipeline of that name. Blocks: up to 0.2 s."""
    return _source(name) is not None


@lru_cache(_MOST)
def needs(name: str) -> frozenset[str]:
    """What a pipeline of the installed diffusers can't be made without; nothing where its own code does not say it."""
    source = _source(name)
    arguments = None if source is None else _methods(source).get("__init__")
    if source is None or arguments is None:
        return frozenset()
    plain = [each.arg for each in (*arguments.args.posonlyargs, *arguments.args.args)]
    return frozenset(plain[1 : len(plain) - len(arguments.args.defaults)]) - _optional(source)


@lru_cache(_MOST)
def takes(name: str) -> frozenset[str] | None:
    """The arguments of a drawing by such a pipeline; None where its own code does not say them."""
    source = _source(name)
    call = None if source is None else _methods(source).get("__call__")
    return None if call is None else frozenset(each.arg for each in ast.walk(call.args) if isinstance(each, ast.arg))


def _methods(source: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in source.body if isinstance(node, ast.FunctionDef)}


def _optional(source: ast.ClassDef) -> frozenset[str]:
    """The parts that a class says it can do without."""
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_optional_components":
            return frozenset(each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant))  # type: ignore[misc]
    return frozenset()


@lru_cache(_MOST)
def _class(name: str) -> Any:
    source = _source(name)
    if source is None:
        return None
    methods = _methods(source)
    if "__call__" not in methods:
        return None
    members: dict[str, Any] = {"__call__": _call(methods["__call__"].args)}
    if "do_classifier_free_guidance" in methods:
        members["do_classifier_free_guidance"] = property(lambda _: True)
    return type(name, (), members)


def _call(arguments: ast.arguments) -> Any:
    """A function of these arguments; a default that is no literal is told as None."""

    def call(self: Any, *_: Any, **__: Any) -> None:
        raise NotImplementedError("a stand-in draws nothing")

    plain = [*arguments.posonlyargs, *arguments.args]
    missing: list[Any] = [inspect.Parameter.empty] * (len(plain) - len(arguments.defaults))
    found = zip(plain, [*missing, *map(_literal, arguments.defaults)], strict=True)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(argument.arg, kind, default=default) for argument, default in found]
    )
    return call


def _literal(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


@lru_cache(_FEW)
def _source(name: str) -> ast.ClassDef | None:
    """The class of that name, from whichever file has it."""
    for path in _files("pipeline_*.py"):
        text = path.read_text(encoding="utf-8")
        if f"\nclass {name}(" in text:
            return next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    return None


def _files(pattern: str) -> Iterator[Path]:
    spec = importlib.util.find_spec("diffusers")
    if spec is not None and spec.origin is not None:
        yield from (Path(spec.origin).parent / "pipelines").rglob(pattern)


@lru_cache(1)
def _mappings() -> Mapping[str, Mapping[str, str]]:
    """AutoPipeline's tables: families and the classes that do a task for them, by the tables' names."""
    found: dict[str, dict[str, str]] = {}
    for path in _files("auto_pipeline.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign):
                _read(node, found)
    return found


def _read(node: ast.Assign, found: dict[str, dict[str, str]]) -> None:
    """`NAME = OrderedDict([("family", Class), …])`, or `NAME["family"] = Class`."""
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name) and isinstance(value, ast.Call) and value.args and isinstance(value.args[0], ast.List):
        pairs = (each.elts for each in value.args[0].elts if isinstance(each, ast.Tuple) and len(each.elts) == 2)
        found[target.id] = {str(_literal(key)): ast.unparse(kind) for key, kind in pairs}
    elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and isinstance(value, ast.Name):
        found.setdefault(target.value.id, {})[str(_literal(target.slice))] = value.id
