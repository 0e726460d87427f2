"""Text-to-image pipelines: a folder of files, kept as blobs and laid out again as hard links when a model is used."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from serow.errors import ModelFileError
from serow.store.blobs import Blobs, disk_errors
from serow.store.manifest import Layer, decode
from serow.store.picture_defaults import Hints
from serow.store.safetensors import count_parameters

INDEX = "model_index.json"  # the file that makes a folder a pipeline
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")
_WEIGHTS = ".safetensors"
_KINDS = (".json", _WEIGHTS, ".txt", ".jinja", ".model")  # nothing that could hold code or a pickle
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_CONVERT = "keep only its .safetensors files, or convert it: DiffusionPipeline.from_pretrained(folder).save_pretrained(new)"
_CLASS = re.compile(r"[A-Za-z0-9_]{1,100}")
# whose classes load weights and nothing else; the last ones are modules of diffusers
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "deepfloyd_if", "kolors", "latent_diffusion")


def check_path(path: str) -> str:
    """A path within a pipeline; raises ModelFileError for one that leaves it, or for a kind of file that is not kept."""
    parts = path.split("/")
    if not 1 <= len(parts) <= 4 or not all(_PART.fullmatch(part) for part in parts):
        raise ModelFileError("file path must be relative")
    if PurePosixPath(path).suffix.lower() in _PICKLES:
        raise ModelFileError(f"{path} could hold code: weights must be safetensors", hint=_CONVERT)
    if PurePosixPath(path).suffix not in _KINDS:
        raise ModelFileError(f"{path} is not a kind of file that a pipeline may have: {', '.join(_KINDS)}")
    return path


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a pipeline by their paths within it, without pictures, programs and the like, which are not kept.

    Raises ModelFileError when it is no pipeline, or holds pickles.
    """
    if not (folder / INDEX).is_file():
        raise ModelFileError("the folder is not a diffusers pipeline", hint=f"it has no {INDEX}")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {check_path(name): path for name, path in paths.items() if belongs(name)}


def belongs(name: str) -> bool:
    """Whether a file of a folder is part of its pipeline, or has to be refused: weights at the top are a copy of all parts."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in (*_KINDS, *_PICKLES) and "/." not in f"/{name}" and (suffix != _WEIGHTS or "/" in name)


def refuse_single(paths: Iterable[str]) -> None:
    """Refuse weights without the folder they belong to; raises ModelFileError."""
    if any(path.lower().endswith(_WEIGHTS) for path in paths):
        raise ModelFileError(
            f"a {_WEIGHTS} file alone has no tokenizer and no configuration: a whole diffusers folder is needed",
            hint="make one: StableDiffusionPipeline.from_single_file(file).save_pretrained(folder), or the class that fits",
        )


def refuse_pickle(path: str) -> None:
    """Refuse a file that could hold code; raises ModelFileError."""
    if PurePosixPath(path).suffix.lower() in _PICKLES:
        raise ModelFileError(f"{path} could hold code: weights must be safetensors or GGUF", hint=_CONVERT)


def family(index: bytes, paths: Iterable[str]) -> str:
    """The class of pipeline that model_index.json names, whose parts lie at `paths`.

    Raises ModelFileError when a part is missing, or is of a class that is not known to be harmless.
    """
    entries = decode(index, dict[str, Any], INDEX)
    name = entries.get("_class_name")
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        raise ModelFileError(f"the model's {INDEX} is broken")
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    for part, entry in _parts(entries):
        library, kind = entry
        if library not in _LIBRARIES or not isinstance(kind, str) or not _CLASS.fullmatch(kind):
            raise ModelFileError(f"the part {part} is code of the model's own, which is not run")
        if part not in folders:
            raise ModelFileError(f"the part {part} is missing")
    return name


def _parts(entries: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name, library and class of every part that is there."""
    for name, entry in entries.items():
        if isinstance(entry, list) and entry and entry[0] is not None:
            if len(entry) != 2:
                raise ModelFileError(f"the model's {INDEX} is broken")
            yield name, (entry[0], entry[1])


def hints(paths: Iterable[str], read: Callable[[str], bytes]) -> Hints:
    """What the settings among these files say of the model; one that is missing or broken says nothing."""
    known = set(paths)

    def settings(name: str) -> dict[str, Any]:
        with suppress(ModelFileError):
            return decode(read(name), dict[str, Any], name) if name in known else {}
        return {}

    denoiser = next((part for part in ("transformer", "unet") if f"{part}/config.json" in known), "unet")
    return Hints(
        index=settings(INDEX),
        scheduler=settings("scheduler/scheduler_config.json"),
        denoiser=settings(f"{denoiser}/config.json"),
        vae=settings("vae/config.json"),
    )


def check_folder(folder: Path) -> int:
    """Check a folder that was laid out, before it is loaded; returns its number of parameters. Raises ModelFileError."""
    files = files_of(folder)
    family(files[INDEX].read_bytes(), files)
    return sum(sum(count_parameters(path).values()) for name, path in files.items() if name.endswith(_WEIGHTS))


def folder_name(layers: Iterable[Layer]) -> str:
    """The name of the folder that these files are laid out in: models that differ in parameters only share it."""
    lines = sorted(f"{layer.digest} {layer.name}\n" for layer in layers)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def lay_out(layers: Iterable[Layer], blobs: Blobs, target: Path) -> Path:
    """Make a folder of blobs under their layers' names, unless it is there; returns it. Raises StoreError.

    The names have been checked by `check_path`, or are our own.
    """
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


def clear(layers: Iterable[Layer], target: Path) -> None:
    """Remove the folder of a pipeline again: its files, and what is empty then. What anybody put beside them stays."""
    paths = [target / layer.name for layer in layers]
    for path in paths:
        with suppress(OSError):
            path.unlink()
    for folder in sorted({path.parent for path in paths} | {target}, key=lambda folder: -len(folder.parts)):
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()


def _link(layers: Iterable[Layer], blobs: Blobs, folder: Path) -> None:
    for layer in layers:
        path = folder / layer.name
        path.parent.mkdir(parents=True, exist_ok=True)
        _link_file(blobs.path(layer.digest), path)


def _link_file(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # another user's file, or a disk without hard links
        path.symlink_to(source.absolute())


def _rename(building: Path, target: Path) -> None:
    try:
        building.rename(target)
    except OSError:
        if not target.is_dir():  # else another thread was faster
            raise
