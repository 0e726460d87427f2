"""Models whose weights are split into several files, `NAME-00001-of-00003.gguf` and so on.

The parts stay as they are, a layer each. The engine finds them by their names: so they are laid out in a folder of links. What
each part says of itself is its place; manifests of other programs name no layers, and list them in any order.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from serow.errors import ModelFileError
from serow.store.manifest import WEIGHTS, Layer, Manifest

NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL | re.ASCII)  # of a part: its set, its number, how many there are


def names_of(name: str) -> list[str]:
    """The names of all files that belong to one, in order: those of its set, or its own."""
    match = NAME.fullmatch(name)
    if match is None or not 1 <= int(match[2]) <= int(match[3]):
        return [name]
    return [f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, int(match[3]) + 1)]


def numbers(files: Mapping[str, str]) -> dict[str, int]:
    """The files of a split model, with the number of each; raises ModelFileError for a set that is not whole."""
    matches = {path: match for path in files if (match := NAME.fullmatch(path))}
    if not matches:
        return {}
    sets = {(match[1], match[3]) for match in matches.values()}
    if len(sets) > 1:
        raise ModelFileError("the files belong to more than one split model")
    count = int(next(iter(sets))[1])
    if len(matches) != count or {int(match[2]) for match in matches.values()} != set(range(1, count + 1)):
        raise ModelFileError(f'split GGUF "{min(matches)}" has {len(matches)} shards, expected {count}')
    return {path: int(match[2]) for path, match in matches.items()}


def parts_of(manifest: Manifest) -> list[Layer]:
    """The layers of weights in several files, under the names that the engine looks for; none for weights of one file."""
    layers = manifest.all(WEIGHTS)
    return _named(sorted(layers, key=lambda layer: layer.name)) if len(layers) > 1 else []


def in_order(parts: Sequence[Layer], place: Callable[[Layer], tuple[int, int]]) -> list[Layer]:
    """The parts as their files say that they follow each other; none when these are no parts of one model."""
    found = {place(part): part for part in parts}
    wanted = [(number, len(parts)) for number in range(1, len(parts) + 1)]
    return _named([found[each] for each in wanted]) if set(wanted) == set(found) else []


def _named(layers: Sequence[Layer]) -> list[Layer]:
    count = len(layers)
    names = (f"model-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    return [msgspec.structs.replace(layer, name=name) for layer, name in zip(layers, names, strict=True)]
