"""Whether the installed packages have the classes that a pipeline names: by their sources, importing them takes seconds."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from serow.engines.diffusers.stand_in import is_pipeline, needs, takes
from serow.errors import ModelFileError
from serow.store.picture_defaults import Hints
from serow.store.pipeline import Index, index_of

NEEDED = frozenset(("prompt", "num_inference_steps", "generator", "callback_on_step_end"))  # arguments of a drawing
RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}  # what old folders name
_MOST = 1024  # classes that are remembered
_ELSEWHERE = ("modular_", "convert_", "configuration_")  # beginnings of files of transformers whose names are no parts
_found: set[str] = set()  # packages
_FAST = "Fast"  # behind the name of a class of transformers: stands for the one without it


def check(hints: Hints) -> None:
    """Raise ModelFileError for a class that the installed packages lack, or a pipeline of which they say that it can't draw.

    Of packages that are not there nothing is said.
    Blocks: up to 0.2 s for each class that was not asked for before.
    """
    index = index_of(hints.index)
    if _is_lacking("diffusers", index.family) or (is_there("diffusers") and not is_pipeline(index.family)):
        raise _refused("the model", index.family, "diffusers")
    for part, (library, name) in index.parts.items():
        if _is_lacking(library, RENAMED.get(name, name)):
            raise _refused(f"the part {part}", name, "transformers" if library == "transformers" else "diffusers")
        if name.endswith("Pipeline"):
            raise ModelFileError(f"the part {part} is a {name}, which is a whole pipeline and no part of one")
    _check_pipeline(index)


def _check_pipeline(index: Index) -> None:
    """Refuse a pipeline that does not draw from a text, or without parts that it can't do without."""
    arguments = takes(index.family)
    if arguments is not None and not arguments >= NEEDED:
        raise ModelFileError(f"the model is a {index.family}, which does not draw from a text, or tells nothing of its steps")
    if missing := sorted(needs(index.family) - {*index.parts, *index.absent, *index.settings}):
        what = f"the part{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise ModelFileError(f"the model is a {index.family}, which needs {what}: its model_index.json names none")


def lacking(hints: Hints) -> list[str]:
    """A sentence that says which class it is; none where nothing is known against the pipeline. Blocks as `check` does."""
    try:
        check(hints)
    except ModelFileError as error:
        return [f"{error}; {error.hint}" if error.hint else str(error)]
    return []


def _refused(what: str, name: str, package: str) -> ModelFileError:
    version = importlib.metadata.version(package)
    return ModelFileError(
        f"{what} is a {name}, which {package} {version} does not have",
        hint=f"a newer one may have it: pip install --upgrade {package}, then start the server again",
    )


@lru_cache(_MOST)
def _is_lacking(library: str, name: str) -> bool:
    """Whether none of the sources that tell what a library exports names a class, and there are sources."""
    names = [f'"{each}"'.encode() for each in {name, name.removesuffix(_FAST)}]
    was_read = False
    for path in _sources(library):
        text, was_read = path.read_bytes(), True
        if any(each in text for each in names):
            return False
    return was_read


def is_there(package: str) -> bool:
    """Whether a package is installed. What was found once is not looked for again: that takes 0.1 ms."""
    if package not in _found and importlib.util.find_spec(package) is not None:
        _found.add(package)
    return package in _found


def _sources(library: str) -> Iterator[Path]:
    """The files in which a library says what it exports; a library that is a module of diffusers has one."""
    package = library if library in ("diffusers", "transformers") else "diffusers"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    root = Path(spec.origin).parent
    if library != package:
        yield from root.glob(f"pipelines/{library}/__init__.py")
        return
    yield from root.glob("__init__.py")
    if library == "transformers":
        yield from (path for path in root.glob("models/*/*.py") if not path.name.startswith(_ELSEWHERE))
