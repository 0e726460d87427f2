"""An image model in the making: which files it is made of, checked part by part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serow.store import manifest as media
from serow.store import parts, pipeline
from serow.store.blobs import Blobs
from serow.store.folder import INDEX, WEIGHTS, choose
from serow.store.heads import Heads
from serow.store.manifest import Config, Layer
from serow.store.safetensors import count_types
from serow.store.vocabulary import LIMIT
from serow.store.weights import human_count


@dataclass(frozen=True)
class Made:
    """The layers of an image model, what it is, and what is said of files that are not taken."""

    layers: Sequence[Layer]
    config: Config
    warnings: Sequence[str] = ()


def make(files: Mapping[str, str], blobs: Blobs, heads: Heads) -> Made:
    """A model of the files of a folder, by path and digest; raises ModelFileError for what can't be drawn with."""
    chosen = choose(files)
    kept = {path: files[path] for path in chosen.kept}
    index = pipeline.check_parts(blobs.read(kept[INDEX], media.CONFIG_LIMIT), kept)
    headers = {path: heads.read_shapes(blobs.path(digest)) for path, digest in kept.items() if path.endswith(WEIGHTS)}
    parts.check(
        index.parts,
        kept,
        lambda path: blobs.read(kept[path], LIMIT),
        lambda path: {name: tuple(shape) for name, (_, shape) in headers[path].items()},
        other=(),
    )
    counts: Counter[str] = Counter()
    for header in headers.values():
        counts += count_types(header)
    sizes = {path: blobs.size(digest) for path, digest in kept.items()}
    layers = [Layer(media_type=media.PIPELINE_FILE, digest=kept[path], size=size, name=path) for path, size in sizes.items()]
    return Made(layers, _config(index.family, counts), chosen.left_out)


def _config(family: str, counts: Counter[str]) -> Config:
    return Config(
        model_format="diffusers",
        model_family=family,
        model_families=[family],
        model_type=human_count(counts.total()),
        file_type=max(counts, key=counts.__getitem__, default="unknown"),
        capabilities=["image"],
    )
