"""How much memory drawing takes beside the weights, by the size of the picture and the networks' configurations.

What counts is the largest moment: the text encoder's widest layer, in a step the denoiser's, then the autoencoder's last one,
which has every pixel. The factors were measured, those of layers by what PyTorch has allocated at their widest; a network that
is not known here takes nothing, and is never refused.
"""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from serow.engines.diffusers.leaving import LARGE
from serow.engines.diffusers.reading import reading, text_tokens
from serow.engines.diffusers.sizes import Size
from serow.errors import NotEnoughMemory

_UNET = 19.0  # numbers for a cell and a channel of the first block, beside what is kept for the way up
_UNET_ATTENTION = 22.0  # where the first block has attention, whose linear layers are the widest
_TRANSFORMER = 15.5  # for a token and a number of it
_TRANSFORMERS = {  # by the beginning of the pipeline's class
    "Flux2": 21.5,  # one linear layer makes all: queries, keys, values, and twice what the next one reads
    "StableDiffusion3": 12.5,
    "PixArt": 12.5,
    "CogView4": 12.5,
    "AuraFlow": 13.5,
}
_LOOKED_AT = 1 << 20  # pixels of a picture that a pipeline looks at, at most
_PIXEL = 4.0, 1.5  # for a pixel, of the channels of the last block but one, and of the last, which adds none in pieces
_FRAMES = 2.6  # times as much in an autoencoder of videos, whose convolutions lay two frames before the one that there is
_TILE = 512  # pixels on a side of what is decoded at once in tiles, where the autoencoder does not say it
_PICTURE = 16.0  # numbers for a pixel of a finished picture: as they come, stitched, and as bytes
_SURE = 0.9  # of an estimate: what is refused does not fit for certain
_OFFERED = 0.75  # of what is free, for a size that is offered: some drawings take a quarter more than is estimated
_SMALLER = 0.98  # each size that is tried, until one fits
_ANY = 48 << 20  # bytes that a drawing of any size takes: libraries' own plans and buffers
_HEAP = 96 << 20  # at most lies between what the C library has given away, also of parts before; as is taken where that is less


_known: MutableMapping[Any, tuple[int, int]] = WeakKeyDictionary()  # by network: asking all its layers takes a millisecond


@dataclass(frozen=True)
class Working:
    """Bytes beside the weights: of a step, of the decoding, and of that in tiles, the same where there are none."""

    step: int
    decode: int
    tiled: int
    weight: int = 0  # the largest one of a convolution
    text: int = 0  # of reading the description

    @property
    def least(self) -> int:
        """What has to be free."""
        return max(self.parts(min(self.decode, self.tiled)).values())

    def parts(self, decode: int) -> dict[str, int]:
        """What each part of a drawing takes of a process, with what lies about of those before; `decode` is what decoding does.

        So it was in whole drawings (`bench.picture_memory`): a step of FLUX took 74 MiB more behind a text than without one,
        a decoding 75 MiB more than by itself. A layer of the largest weight has few cells, and the widest one small weights.
        """
        text, step = (min(each, _HEAP) for each in (self.text, self.step))
        return {
            "text": _ANY + self.text + text,
            "step": _ANY + max(self.step, self.weight) + step + text,
            "decode": _ANY + decode + max(step, text),
        }


def working(pipe: Any, size: Size, batch: int, looked_at: Sequence[Size] = ()) -> Working:
    """What a picture of this size takes.

    `batch`: how many are computed at once, twice as many with guidance; `looked_at`: pictures that become tokens, too.
    """
    vae = getattr(pipe, "vae", None)
    step, weight = batch * _step(pipe, size, looked_at), _largest_weight(getattr(pipe, "unet", None))
    wide, text = _widths(getattr(vae, "config", None)), reading(pipe)
    if vae is None or wide is None:
        return Working(step, 0, 0, weight, text)
    pixels, number = size[0] * size[1], _itemsize(vae)
    each = _decoded(vae, wide, is_large=pixels > LARGE) * number
    decode = int(pixels * (each + _PICTURE * number))
    side = getattr(vae, "tile_sample_min_size", None) or getattr(vae, "tile_sample_min_height", None) or _TILE
    tile = min(pixels, int(side) ** 2)
    tiled = int(tile * each + pixels * _PICTURE * number) if hasattr(vae, "enable_tiling") else decode
    return Working(step, decode, min(decode, tiled), weight, text)


def _step(pipe: Any, size: Size, looked_at: Sequence[Size]) -> int:
    """Bytes of one picture in a step of the denoiser."""
    unet, transformer = (getattr(pipe, name, None) for name in ("unet", "transformer"))
    factor = int(getattr(pipe, "vae_scale_factor", None) or 8)
    cells = math.ceil(size[0] / factor) * math.ceil(size[1] / factor)
    if unet is not None:
        return int(cells * _numbers_of_unet(unet.config) * _itemsize(unet))
    if transformer is None:
        return 0
    tokens_of_pixel = 1 / (factor * _patch(pipe, transformer.config)) ** 2
    cells = size[0] * size[1] + sum(_pixels_of(pipe, each) for each in looked_at)
    tokens = cells * tokens_of_pixel + text_tokens(pipe)
    return int(tokens * _of_transformer(pipe) * _inner(transformer.config) * _itemsize(transformer))


def _decoded(vae: Any, wide: tuple[int, int], *, is_large: bool) -> float:
    """Numbers for a pixel while it is decoded: on a CPU large pictures are computed in pieces, which lie about no longer."""
    if hasattr(vae.config, "base_dim"):
        return (_PIXEL[0] * wide[1] + _PIXEL[1] * wide[0]) * _FRAMES
    is_in_pieces = is_large and getattr(getattr(vae, "device", None), "type", "cpu") == "cpu"
    return _PIXEL[0] * wide[1] + (0 if is_in_pieces else _PIXEL[1] * wide[0])


def _of_transformer(pipe: Any) -> float:
    """Numbers for each number of a token, in the widest layer of a transformer."""
    name = type(pipe).__name__
    return next((factor for start, factor in _TRANSFORMERS.items() if name.startswith(start)), _TRANSFORMER)


def _pixels_of(pipe: Any, picture: Size) -> int:
    """Pixels of a picture that becomes tokens, as the pipeline scales it."""
    is_scaled = type(pipe).__name__.startswith("QwenImageEdit")
    return _LOOKED_AT if is_scaled else min(_LOOKED_AT, picture[0] * picture[1])


def _numbers_of_unet(config: Any) -> float:
    """For each cell: the first block's work, and what every block keeps for the way up; each has a quarter of the cells."""
    channels = [*getattr(config, "block_out_channels", ())]
    layers = getattr(config, "layers_per_block", 1)
    layers = layers if isinstance(layers, int) else max(layers)
    if not channels:
        return 0.0
    kept = sum(channel * (layers + 0.25) / 4**number for number, channel in enumerate(channels))
    is_attentive = "Attn" in next(iter(getattr(config, "down_block_types", ())), "")
    return float((_UNET_ATTENTION if is_attentive else _UNET) * channels[0] + kept)


def _inner(config: Any) -> int:
    """How many numbers a token has in the layers of a transformer."""
    heads, head = getattr(config, "num_attention_heads", None), getattr(config, "attention_head_dim", None)
    if isinstance(heads, int) and isinstance(head, int):
        return heads * head
    found = getattr(config, "dim", None) or getattr(config, "hidden_size", None) or 0
    return found if isinstance(found, int) else 0


def _patch(pipe: Any, config: Any) -> int:
    """Cells on the side of a token: as its configuration says; latents of four times as many channels are packed already."""
    own = getattr(config, "patch_size", None) or next(iter(getattr(config, "all_patch_size", None) or ()), None) or 1
    vae = getattr(getattr(pipe, "vae", None), "config", None)
    cells = getattr(vae, "latent_channels", None) or getattr(vae, "z_dim", None)
    is_packed = isinstance(cells, int) and getattr(config, "in_channels", None) == 4 * cells
    return max(int(own), 2 if is_packed else 1)


def _widths(config: Any) -> tuple[int, int] | None:
    """Channels of an autoencoder's last block, and of the one before it."""
    channels = [*(getattr(config, "decoder_block_out_channels", None) or getattr(config, "block_out_channels", None) or ())]
    if not channels and isinstance(base := getattr(config, "base_dim", None), int):
        channels = [base * each for each in getattr(config, "dim_mult", ())]
    return (channels[0], channels[min(1, len(channels) - 1)]) if channels else None


def _largest_weight(network: Any) -> int:
    """Bytes of the largest weight of a convolution, which is laid out anew for each of its computations."""
    return _weighed(network)[0] if hasattr(network, "parameters") else 0


def _itemsize(network: Any) -> int:
    return _weighed(network)[1] if hasattr(network, "parameters") else int(network.dtype.itemsize)


def _weighed(network: Any) -> tuple[int, int]:
    """Bytes of its largest weight of a convolution, and of a number."""
    if network not in _known:
        sizes = (weight.numel() * int(weight.element_size()) for weight in network.parameters() if weight.ndim == 4)
        _known[network] = max(sizes, default=0), int(network.dtype.itemsize)
    return _known[network]


def check_room(pipe: Any, size: Size | None, batch: int, free: int, step: int, looked_at: Sequence[Size] = ()) -> None:
    """Raise NotEnoughMemory, with the numbers and what would fit, for a picture that certainly takes more than is free."""
    if size is None or (needed := working(pipe, size, batch, looked_at).least) * _SURE <= free:
        return
    fits = largest(pipe, size, batch, int(free * _OFFERED), step, looked_at)
    numbers = f"needs about {needed / (1 << 30):.1f} GiB beside the model's own, {free / (1 << 30):.1f} GiB are free"
    what = "unload other models" if fits is None else f"{fits[0]}x{fits[1]} fits"
    raise NotEnoughMemory(f"a picture of {size[0]}x{size[1]} {numbers}: {what}")


def largest(pipe: Any, size: Size, batch: int, free: int, step: int, looked_at: Sequence[Size] = ()) -> Size | None:
    """The largest size of about the same shape that fits; None when not even one cell of the grid does."""
    scale = math.sqrt(min(1.0, free / max(1, working(pipe, size, batch, looked_at).least)))
    while True:
        width, height = (max(step, int(side * scale) // step * step) for side in size)
        if working(pipe, (width, height), batch, looked_at).least <= free:
            return width, height
        if (width, height) == (step, step):
            return None
        scale *= _SMALLER
