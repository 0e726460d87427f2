"""Layers of a UNet under diffusers' names, where a checkpoint of one file has them under those of their first home."""

import re
from collections.abc import Iterator

from serow.store.checkpoint import Shapes

_BLOCK = re.compile(r"(input|output)_blocks\.(\d{1,3})\.(\d)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.(\d)\.(.+)")
_KINDS = {"0": "resnets.{}", "1": "attentions.{}"}
_RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj", "skip_connection": "conv_shortcut",
}  # fmt: skip


def renamed(shapes: Shapes, layers_per_block: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors of the blocks of a UNet, by diffusers' names; `layers_per_block` is that of its configuration."""
    for name, shape in shapes.items():
        if found := _name(name, layers_per_block):
            yield found, shape


def _name(name: str, layers: int) -> str:
    if match := _MIDDLE.fullmatch(name):
        place = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}.get(match[1])
        return f"mid_block.{place}.{_within(place, match[2])}" if place else ""
    match = _BLOCK.fullmatch(name)
    if match is None or match[3] not in _KINDS:
        return ""
    side, number, rest = match[1], int(match[2]), match[4]
    place = _KINDS[match[3]]
    if side == "input":
        block, layer = divmod(number - 1, layers + 1)
        if number == 0 or layer == layers:  # the first convolution, and what makes it smaller
            return ""
        place = place.format(layer)
        return f"down_blocks.{block}.{place}.{_within(place, rest)}"
    block, layer = divmod(number, layers + 1)
    if place.startswith("attentions") and rest.startswith("conv."):  # what makes it larger, where there is no attention
        return ""
    place = place.format(layer)
    return f"up_blocks.{block}.{place}.{_within(place, rest)}"


def _within(place: str, rest: str) -> str:
    if not place.startswith("resnets"):
        return rest
    stem, _, last = rest.rpartition(".")
    return f"{_RESNET.get(stem, stem)}.{last}"
