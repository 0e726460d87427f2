"""LoRA files for image models: whether one can change a model, told by the names and sides of its tensors (PIC-03).

A pair of tensors changes one layer: the first reads its columns, the second writes its rows. Some names are those of diffusers,
some kohya's (`lora_unet_` and the layer's path with underscores), some those of the model's first home; of names that can't be
compared here nothing is said: they are looked up when the model is loaded.
"""

import re
from collections.abc import Iterator, Mapping

from serow.errors import ModelFileError
from serow.store.checkpoint import Shapes, is_lora

_HALF = re.compile(
    r"(?P<stem>.+?)(?:\.lora_|\.lora\.|\.lora_linear_layer\.|_lora\.)(?P<half>A|B|down|up)(?:\.default)?\.weight"
)
_PREFIXES = ("base_model.model.", "diffusion_model.")
_OF_UNET = re.compile(r"(?:^|[._])(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_OF_TRANSFORMER = re.compile(r"(?:^|[._])(?:(?:single_)?transformer_blocks|double_blocks|single_blocks|layers)[._]\d+[._]")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_Sides = tuple[int, int]


def name_of(path: str) -> str:
    """The name of an adapter, by which requests weigh it: its file's, without what no name may hold."""
    stem = path.rpartition("/")[2].removesuffix(".safetensors")
    return _NAME.sub("_", stem)[:64] or "adapter"


def check_fit(path: str, lora: Shapes, denoiser: str, parts: Mapping[str, Shapes]) -> None:
    """Raise ModelFileError for a file that is no LoRA, or one that is not for this model.

    `denoiser` is "unet" or "transformer"; `parts`: the tensors of those parts whose names are diffusers'.
    """
    if not is_lora(lora):
        raise ModelFileError(f"{path} is not a LoRA", hint="an adapter of an image model changes some of its layers")
    halves = [(match["stem"], match["half"], lora[match.string]) for name in lora if (match := _HALF.fullmatch(name))]
    _check_family(path, denoiser, [stem for stem, _, _ in halves])
    layers = dict(_layers(denoiser, parts))
    for stem, half, shape in halves:
        sides = layers.get(_plain(stem, denoiser))
        if sides is None or len(shape) < 2:
            continue
        found, wanted = (shape[1], sides[1]) if half in ("A", "down") else (shape[0], sides[0])
        if found != wanted:
            raise ModelFileError(f"{path} does not fit the model: {stem} has {wanted} numbers where the LoRA has {found}")


def _check_family(path: str, denoiser: str, stems: list[str]) -> None:
    denoisers = [stem for stem in stems if not stem.startswith(("text_encoder", "lora_te"))]
    of_unet = any(_OF_UNET.search(stem) for stem in denoisers)
    of_transformer = any(stem.startswith("transformer.") or _OF_TRANSFORMER.search(stem) for stem in denoisers)
    if denoiser == "transformer" and of_unet:
        raise ModelFileError(f"{path} does not fit the model: it changes a UNet, the model has a transformer")
    if denoiser == "unet" and of_transformer and not of_unet:
        raise ModelFileError(f"{path} does not fit the model: it changes a transformer, the model has a UNet")


def _plain(stem: str, denoiser: str) -> str:
    """A layer's name as `_layers` has it."""
    for prefix in _PREFIXES:
        stem = f"{denoiser}.{stem.removeprefix(prefix)}" if stem.startswith(prefix) else stem
    stem = stem.replace(".processor.", ".")
    return f"{stem}.0" if stem.endswith(".to_out") else stem


def _layers(denoiser: str, parts: Mapping[str, Shapes]) -> Iterator[tuple[str, _Sides]]:
    """Rows and columns of every layer, under its own name and under kohya's."""
    short = {denoiser: ("unet",), "text_encoder": ("te", "te1"), "text_encoder_2": ("te2",)}
    for part, tensors in parts.items():
        for name, shape in tensors.items():
            if name.endswith(".weight") and len(shape) in (2, 4):
                layer, sides = name.removesuffix(".weight"), (shape[0], shape[1])
                yield f"{part}.{layer}", sides
                yield from ((f"lora_{each}_{layer.replace('.', '_')}", sides) for each in short.get(part, ()))
