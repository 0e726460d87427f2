"""Text-to-image pipelines: a folder of files, kept as blobs and laid out again as hard links when a model is used."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from serow.errors import ModelFileError
from serow.store.blobs import Blobs, disk_errors
from serow.store.manifest import Layer, decode

INDEX = "model_index.json"  # the file that makes a folder a pipeline
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")
_KINDS = (".json", ".safetensors", ".txt", ".jinja", ".model")  # nothing that could hold code or a pickle


def check_path(path: str) -> str:
    """A path within a pipeline; raises ModelFileError for one that leaves it, or for a kind of file that is not kept."""
    parts = path.split("/")
    if not 1 <= len(parts) <= 4 or not all(_PART.fullmatch(part) for part in parts):
        raise ModelFileError("file path must be relative")
    if PurePosixPath(path).suffix not in _KINDS:
        raise ModelFileError(f"{path} is not a kind of file that a pipeline may have: {', '.join(_KINDS)}")
    return path


class _Index(Struct):
    class_name: str = msgspec.field(name="_class_name")


def family(index: bytes) -> str:
    """The kind of pipeline that model_index.json names; raises ModelFileError."""
    return decode(index, _Index, INDEX).class_name


def lay_out(layers: Iterable[Layer], blobs: Blobs, target: Path) -> Path:
    """Make the folder of a pipeline, unless it is there; returns it. Raises ModelFileError, StoreError."""
    if target.is_dir():
        return target
    with disk_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
        try:
            _link(layers, blobs, building)
            building.chmod(0o755)
            _rename(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target


def _link(layers: Iterable[Layer], blobs: Blobs, folder: Path) -> None:
    for layer in layers:
        path = folder / check_path(layer.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(blobs.path(layer.digest), path)


def _rename(building: Path, target: Path) -> None:
    try:
        building.rename(target)
    except OSError:
        if not target.is_dir():  # else another thread was faster
            raise
