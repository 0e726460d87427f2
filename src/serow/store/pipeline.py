"""Text-to-image pipelines: a folder of files, kept as blobs and laid out again as hard links when a model is used."""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from serow import bounds
from serow.errors import ModelFileError
from serow.store import gguf, parts, tensors
from serow.store.blobs import Blobs, disk_errors, read_small
from serow.store.checkpoint import by_part
from serow.store.folder import CONVERT, GGUF, INDEX, LORAS, PICKLES, SINGLE, WEIGHTS, choose, files_under
from serow.store.manifest import ADAPTER, PIPELINE_FILE, SETTINGS_LIMIT, Layer, Manifest, decode
from serow.store.picture_defaults import Hints
from serow.store.safetensors import named, read_shapes, shapes_of

_PART = re.compile(r"[A-Za-z0-9_]{1,100}")
_CLASS = re.compile(r"[A-Za-z0-9_]{1,100}")
_MOST_PARTS = 40
_OTHERS = (  # classes of pipelines that draw no picture of a text, whatever else they are given
    (
        re.compile(r"Video|Animate|Wan[A-Z]|WanPipeline|LTX|Mochi|CogVideo|Cosmos|SkyReels|Latte|Allegro|TI2V|[TI]2V|AnyFlow"),
        "makes videos",
    ),
    (re.compile(r"Audio|Music|AceStep|Spectrogram"), "makes sound"),
    (re.compile(r"Marigold|ShapE"), "tells depth or shapes"),
    (re.compile(r"Prior(?!.*Combined)|Decoder|SuperResolution|Upscal"), "does one step of several"),
    (re.compile(r"^Onnx|^Flax|LLaDA|DiffusionGemma"), "is of another kind"),
)
# whose classes load weights and nothing else; the last ones are modules of diffusers
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "deepfloyd_if", "kolors", "latent_diffusion")


def files_of(folder: Path) -> tuple[dict[str, Path], Sequence[str]]:
    """The files of a pipeline by their paths within it, and what is said of those that are left out.

    Raises ModelFileError when it is no pipeline, or its weights are pickles.
    """
    if not (folder / INDEX).is_file():
        raise ModelFileError("the folder is not a diffusers pipeline", hint=f"it has no {INDEX}")
    with disk_errors():
        paths = files_under(folder)
    chosen = choose(paths, parse_index(read_small(folder / INDEX, SETTINGS_LIMIT)).parts)
    return {name: paths[name] for name in chosen.kept}, chosen.left_out


def refuse_single(paths: Iterable[str]) -> None:
    """Refuse weights without the folder they belong to; raises ModelFileError."""
    if any(path.lower().endswith(WEIGHTS) for path in paths):
        raise ModelFileError(
            f"a {WEIGHTS} file alone has no tokenizer and no configuration: a whole diffusers folder is needed",
            hint="make one: StableDiffusionPipeline.from_single_file(file).save_pretrained(folder), or the class that fits",
        )


def refuse_pickle(path: str) -> None:
    """Refuse a file that could hold code; raises ModelFileError."""
    if PurePosixPath(path).suffix.lower() in PICKLES:
        raise ModelFileError(f"{path} could hold code: weights must be safetensors or GGUF", hint=CONVERT)


@dataclass(frozen=True)
class Index:
    """What model_index.json says: the class of the pipeline, library and class of each part, and settings beside them."""

    family: str
    parts: Mapping[str, tuple[str, str]]
    absent: tuple[str, ...] = ()  # parts that the pipeline can do without
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse_index(data: bytes) -> Index:
    """Read a model_index.json, Ollama's too; raises ModelFileError for a part of a class that is not known to be harmless."""
    return index_of(decode(data, dict[str, Any], INDEX))


def index_of(entries: Mapping[str, Any]) -> Index:
    """The same of what was read."""
    name = entries.get("_class_name", entries.get("architecture"))
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        what = "names no class of a pipeline" if name is None else f"names {_shown(name)} as its pipeline, which is no class"
        raise ModelFileError(f"the model's {INDEX} {what}")
    found: dict[str, tuple[str, str]] = {}
    absent = []
    for part, entry in entries.items():
        if isinstance(entry, list) and entry and entry[0] is None:
            absent.append(part)
        elif isinstance(entry, list) and entry and isinstance(entry[0], str):
            found[part] = _part(part, entry)
    if len(found) > _MOST_PARTS:
        raise ModelFileError(f"the model's {INDEX} names {len(found)} parts, more than a pipeline has")
    known = {*found, *absent, "architecture"}
    settings = {key: value for key, value in entries.items() if key not in known and not key.startswith("_")}
    return Index(name, found, tuple(absent), settings)


def _part(part: str, entry: list[Any]) -> tuple[str, str]:
    if not _PART.fullmatch(part):
        what = f"names the part {_shown(part)}: a part is a folder of the model, named in letters, digits and _"
        raise ModelFileError(f"the model's {INDEX} {what}")
    if len(entry) != 2:
        raise ModelFileError(f"the model's {INDEX} says {len(entry)} things of the part {part}, not its library and its class")
    library, kind = entry
    if library not in _LIBRARIES or not isinstance(kind, str) or not _CLASS.fullmatch(kind):
        raise ModelFileError(f"the part {part} is code of the model's own, which is not run")
    return library, kind


def _shown(value: object) -> str:
    """What a stranger's file says, as far as it is repeated."""
    return bounds.quoted(json.dumps(value, ensure_ascii=False))


def check_parts(data: bytes, paths: Iterable[str]) -> Index:
    """The model_index.json of a pipeline whose files lie at `paths`; raises ModelFileError also when a part is missing."""
    index = parse_index(data)
    for pattern, what in _OTHERS:
        if pattern.search(index.family):
            raise ModelFileError(f"the model is a {index.family}, which {what}: models here draw a picture from a text")
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    for part in index.parts:
        if part not in folders:
            raise ModelFileError(f"the part {part} is missing")
    return index


def read_index(folder: Path) -> Index:
    """The model_index.json of a folder that was checked."""
    return parse_index((folder / INDEX).read_bytes())


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
        names=tuple(path.partition("/")[2] for path in sorted(known) if path.startswith((f"{SINGLE}/", f"{LORAS}/"))),
    )


def check_folder(folder: Path) -> int:
    """Check a folder that was laid out, before it is loaded; returns its number of parameters. Raises ModelFileError."""
    files, _ = files_of(folder)
    index = check_parts(files[INDEX].read_bytes(), files)
    single = single_of(folder)
    other = by_part(_shapes(single), "transformer" if "transformer" in index.parts else "unet") if single else {}
    parts.check(index.parts, files, lambda path: files[path].read_bytes(), lambda path: _shapes_of(files, path), other=other)
    if index.settings.get("quantization"):
        tensors.refuse_kind(index.settings["quantization"], "the model")
    return sum(_count(folder / part) for part in {name.partition("/")[0] for name in files if name.endswith((WEIGHTS, GGUF))})


def _shapes_of(files: Mapping[str, Path], path: str) -> dict[str, tuple[int, ...]]:
    with named(path):
        return _shapes(files[path])


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return shapes_of(gguf.read_shapes(path) if gguf.is_gguf(path) else read_shapes(path))


def single_of(folder: Path) -> Path | None:
    """The file in a folder that was laid out which holds the weights of several parts, or of its denoiser; None for none."""
    found = folder / SINGLE
    return next(found.iterdir(), None) if found.is_dir() else None


def loras_of(folder: Path) -> dict[str, Path]:
    """The LoRA files in a folder that was laid out, by the names of the adapters."""
    return {path.stem: path for path in sorted((folder / LORAS).glob(f"*{WEIGHTS}"))}


def _count(folder: Path) -> int:
    """How many numbers the weights of a part have."""
    single = folder / tensors.FOLDER
    if single.is_dir():
        files = {path.name.removesuffix(WEIGHTS): path for path in single.iterdir()}
        return tensors.count_parameters(tensors.tensors_of(files, folder.name))
    weights = [path for path in folder.iterdir() if path.suffix in (WEIGHTS, GGUF)]
    return sum(math.prod(shape) for path in weights for shape in _shapes(path).values())


def layers_of(manifest: Manifest) -> list[Layer]:
    """The layers of a manifest that are the files of a pipeline, named by their paths in it; none for another model."""
    files = files_in(manifest.layers)
    loras = [layer for layer in manifest.all(ADAPTER) if layer.name] if files else []
    return [*files, *(msgspec.structs.replace(layer, name=f"{LORAS}/{layer.name}") for layer in loras)]


def files_in(layers: Sequence[Layer]) -> list[Layer]:
    """The same, without the LoRA files over it."""
    return [layer for layer in layers if layer.media_type == PIPELINE_FILE] or tensors.laid_out(layers)


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
