"""Models whose weights are split into several files, `NAME-00001-of-00003.gguf` and so on.

The parts stay as they are, a layer each. The engine finds them by their names: so they are laid out in a folder of links.
"""

from collections.abc import Sequence

import msgspec

from serow.store.manifest import WEIGHTS, Layer, Manifest


def parts_of(manifest: Manifest) -> list[Layer]:
    """The parts of split weights in order, named as the engine looks for them; none for weights of one file."""
    layers = manifest.all(WEIGHTS)
    if len(layers) < 2 or not all(layer.name for layer in layers):
        return []
    ordered = sorted(layers, key=lambda layer: layer.name)
    return [msgspec.structs.replace(layer, name=name) for layer, name in zip(ordered, _names(ordered), strict=True)]


def _names(layers: Sequence[Layer]) -> list[str]:
    return [f"model-{number:05}-of-{len(layers):05}.gguf" for number in range(1, len(layers) + 1)]
