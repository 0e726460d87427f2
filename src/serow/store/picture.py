"""An image model in the making: which files it is made of, checked part by part."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serow.errors import ModelFileError
from serow.picture_schedulers import canonical
from serow.picture_schedulers import check_fit as check_fit_of_scheduler
from serow.store import gguf, pipeline, stable_diffusion
from serow.store import manifest as media
from serow.store.blobs import Blobs
from serow.store.checkpoint import PREFIX, Checkpoint, by_part, recognise
from serow.store.folder import GGUF, INDEX, SINGLE, WEIGHTS, check_path, choose
from serow.store.heads import Heads
from serow.store.lora import Changed, check_fit, name_of
from serow.store.manifest import Config, Layer
from serow.store.original import renamed
from serow.store.picture_defaults import Hints
from serow.store.safetensors import count_types, named, shapes_of
from serow.store.tensors import FOLDER
from serow.store.weights import human_count

_GGUF_KINDS = (  # architectures of GGUF files that hold a denoiser
    "aura", "chroma", "flux", "flux2", "hidream", "lumina2", "qwen_image", "sd1", "sd2", "sd3", "sdxl", "z_image",
)  # fmt: skip
_Types = Mapping[str, tuple[str, list[int]]]


@dataclass(frozen=True)
class Made:
    """The layers of an image model, what it is, and what is said of files that are not taken.

    `data`: the bytes of layers that are not in the store, by digest.
    """

    layers: Sequence[Layer]
    config: Config
    warnings: Sequence[str] = ()
    data: Mapping[str, bytes] = field(default_factory=dict)


class Maker:
    """Makes image models of files that are in a store. Raises ModelFileError, StoreError."""

    def __init__(self, blobs: Blobs, heads: Heads) -> None:
        self._blobs = blobs
        self._heads = heads
        self._data: dict[str, bytes] = {}

    def make(self, files: Mapping[str, str]) -> Made:
        """A model of a folder, of a folder and a single file below `_single`, or of a single file; by path and digest."""
        singles = {path: digest for path, digest in files.items() if _is_single(path, has_folder=INDEX in files)}
        if len(singles) > 1:
            raise ModelFileError(f"{' and '.join(sorted(singles)[:2])} are weights of one file each: a model has one of them")
        rest = {path: digest for path, digest in files.items() if path not in singles}
        if not singles:
            return self._folder(rest, {}, "")
        (path, digest), *_ = singles.items()
        name = path.rpartition("/")[2]
        types = self._types(digest, name)
        checkpoint = recognise(name, shapes_of(types))
        if INDEX in rest:
            return self._folder(rest, types, f"{SINGLE}/{name}", checkpoint, digest)
        rest = self._settings(name, checkpoint)
        with _built_as_usual(name):
            return self._folder(rest, types, f"{SINGLE}/{name}", checkpoint, digest)

    def lora(self, path: str, digest: str, layers: Sequence[Layer]) -> Layer:
        """The layer of a LoRA over a model of these layers; raises ModelFileError for one that does not fit."""
        if not path.endswith(WEIGHTS):
            raise ModelFileError(f"{path} is not a {WEIGHTS} file, as the LoRA of an image model has to be")
        files = {layer.name: layer.digest for layer in pipeline.files_in(layers)}
        check_fit(path, shapes_of(self._types(digest, path)), self._changed(files))
        return Layer(media_type=media.ADAPTER, digest=digest, size=self._blobs.size(digest), name=name_of(path) + WEIGHTS)

    def _changed(self, files: Mapping[str, str]) -> Changed:
        """What a LoRA over a model of these files changes."""
        denoiser = "transformer" if "transformer/config.json" in files else "unet"
        settings = pipeline.hints(files, lambda name: self._read(files[name], media.SETTINGS_LIMIT)).denoiser
        tensors: dict[str, dict[str, tuple[int, ...]]] = {}
        for each, digest in files.items():
            if each.startswith(f"{SINGLE}/"):
                tensors.setdefault(denoiser, {}).update(_in_single(shapes_of(self._types(digest, each)), settings))
            elif each.endswith(WEIGHTS) and f"/{FOLDER}/" not in each:  # a file for each tensor says too little
                tensors.setdefault(each.partition("/")[0], {}).update(shapes_of(self._types(digest, each)))
        width = settings.get("cross_attention_dim")
        return Changed(denoiser, str(settings.get("_class_name", "")), tensors, width if isinstance(width, int) else None)

    def hints(self, layers: Sequence[Layer]) -> Hints:
        """What the settings of a model of these layers say of it."""
        files = {layer.name: layer.digest for layer in pipeline.files_in(layers)}
        return pipeline.hints(files, lambda name: self._read(files[name], media.SETTINGS_LIMIT))

    def check_parameters(self, parameters: Mapping[str, Any], layers: Sequence[Layer]) -> None:
        """Raise RequestError for parameters that a model of these layers can't be drawn with."""
        if (wanted := parameters.get("scheduler")) and (own := self.hints(layers).scheduler_kind):
            check_fit_of_scheduler(canonical(wanted), own)

    def _folder(
        self, files: Mapping[str, str], single: _Types, path: str, checkpoint: Checkpoint | None = None, digest: str = ""
    ) -> Made:
        """A model of a folder, some parts of which may have their weights in a single file at `path`."""
        said = self._read(files[INDEX], media.SETTINGS_LIMIT)
        chosen = choose(files, pipeline.parse_index(said).parts)
        kept = {each: files[each] for each in chosen.kept}
        index = pipeline.check_parts(said, kept)
        denoiser = "transformer" if "transformer" in index.parts else "unet"
        found = by_part(shapes_of(single), denoiser) if single else {}
        other = {part: shapes for part, shapes in found.items() if part in index.parts}
        if checkpoint is not None:
            _check_base(path, checkpoint, index.parts.get(denoiser, ("", "nothing"))[1])
        kept = {each: kept[each] for each in kept if not (each.endswith(WEIGHTS) and each.partition("/")[0] in other)}
        unwritten = {each: self._data[kept[each]] for each in kept if kept[each] in self._data}
        written = {each: self._blobs.path(kept[each]) for each in kept if each not in unwritten}
        headers = self._heads.check_parts(index.parts, written, unwritten, other)
        counts: Counter[str] = Counter()
        for types in (*headers.values(), single):
            counts += count_types(types)
        layers = [self._layer(each, kept[each]) for each in kept]
        if path:
            layers.append(self._layer(check_path(path), digest))
        return Made(layers, _config(index.family, counts), chosen.left_out, self._data)

    def is_single(self, files: Mapping[str, str]) -> bool:
        """`is_single` of files in the store."""
        return is_single({path: self._blobs.path(digest) for path, digest in files.items()}, self._heads.architecture)

    def _settings(self, name: str, checkpoint: Checkpoint) -> dict[str, str]:
        """The files that a whole checkpoint needs beside it, which are known."""
        if not checkpoint.is_whole:
            hint = f"two lines: FROM the folder or the model with its other parts, then FROM ./{name}"
            raise ModelFileError(f"{name} holds a {checkpoint.classes[0]} alone: it needs a base", hint=hint)
        files = {}
        for path, data in stable_diffusion.settings(checkpoint).items():
            files[path] = f"sha256:{hashlib.sha256(data).hexdigest()}"
            self._data[files[path]] = data
        return files

    def _types(self, digest: str, name: str) -> _Types:
        """Type and shape of every tensor of a file; what is wrong with it is told under its name."""
        path = self._blobs.path(digest)
        with named(name):
            return self._heads.shapes_in_gguf(path) if gguf.is_gguf(path) else self._heads.read_shapes(path)

    def _read(self, digest: str, limit: int) -> bytes:
        return self._data.get(digest) or self._blobs.read(digest, limit)

    def _layer(self, path: str, digest: str) -> Layer:
        size = len(self._data[digest]) if digest in self._data else self._blobs.size(digest)
        return Layer(media_type=media.PIPELINE_FILE, digest=digest, size=size, name=path)


def is_single(files: Mapping[str, Path], architecture: Callable[[Path], str] = gguf.architecture) -> bool:
    """Whether files, none of which is an index, are one with weights of an image model."""
    if len(files) != 1:
        return False
    (path, file), *_ = files.items()
    return architecture(file) in _GGUF_KINDS if gguf.is_gguf(file) else path.endswith(WEIGHTS)


def _is_single(path: str, *, has_folder: bool) -> bool:
    if has_folder:
        return path.startswith(f"{SINGLE}/")
    return path.endswith((WEIGHTS, GGUF))


@contextmanager
def _built_as_usual(name: str) -> Iterator[None]:
    """Say of a whole checkpoint that does not fit the settings which are known that it needs its own."""
    try:
        yield
    except ModelFileError as error:
        hint = f"two lines: FROM a folder that has its settings, then FROM ./{name}"
        raise ModelFileError(f"{name} is not built as Stable Diffusion is: {error}", hint=error.hint or hint) from error


def _check_base(path: str, checkpoint: Checkpoint, kind: str) -> None:
    name = path.rpartition("/")[2]
    if kind not in checkpoint.classes:
        raise ModelFileError(f"{name} does not fit its base: it holds a {checkpoint.classes[0]}, the base has a {kind}")


def _in_single(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of the denoiser in a single file, under their own names and, of a UNet, under diffusers'."""
    plain = {name.removeprefix(PREFIX): shape for name, shape in shapes.items()}
    layers = settings.get("layers_per_block", 2)
    return {**plain, **dict(renamed(plain, layers if isinstance(layers, int) else 2))}


def _config(family: str, counts: Counter[str]) -> Config:
    return Config(
        model_format="diffusers",
        model_family=family,
        model_families=[family],
        model_type=human_count(counts.total()),
        file_type=max(counts, key=counts.__getitem__, default="unknown"),
        capabilities=["image"],
    )
