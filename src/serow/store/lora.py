"""LoRA files for image models: whether one can change a model, told by the names and sides of its tensors (PIC-03).

A pair of tensors changes one layer: the first reads its columns, the second writes its rows. Some names are those of diffusers,
some kohya's (`lora_unet_` and the layer's path with underscores), some those of the model's first home; of names that can't be
compared here nothing is said: they are looked up when the model is loaded.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serow.errors import ModelFileError
from serow.store.checkpoint import Shapes, is_lora

_HALF = re.compile(
    r"(?P<stem>.+?)(?:\.lora_|\.lora\.|\.lora_linear_layer\.|_lora\.)(?P<half>A|B|down|up)(?:\.default)?\.weight"
)
_PREFIXES = ("base_model.model.", "diffusion_model.")
_OF_UNET = re.compile(r"(?:^|[._])(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_OF_TRANSFORMER = re.compile(r"(?:^|[._])(?:(?:single_)?transformer_blocks|double_blocks|single_blocks|layers)[._]\d+[._]")
_FROM_TEXT = re.compile(r"attn2[._](?:processor\.)?to_[kv]$")
_UNETS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}  # by the numbers of a token
_MARKS = (  # layers that one family has alone, the classes of its denoisers, and what people call it
    (re.compile(r"single_transformer_blocks[._]\d+[._]proj_mlp|single_blocks[._]\d+[._]linear1"),
     ("FluxTransformer2DModel", "ChromaTransformer2DModel", "Flux2Transformer2DModel"), "FLUX"),
    (re.compile(r"attn[._]to_qkv_mlp_proj"), ("Flux2Transformer2DModel",), "FLUX.2"),
    (re.compile(r"transformer_blocks[._]\d+[._](?:img|txt)_(?:mod|mlp)[._]"), ("QwenImageTransformer2DModel",), "Qwen-Image"),
    (re.compile(r"noise_refiner|context_refiner|(?:^|[._])layers[._]\d+[._]attention[._]"),
     ("ZImageTransformer2DModel", "Lumina2Transformer2DModel"), "Z-Image"),
    (re.compile(r"joint_blocks[._]\d+"), ("SD3Transformer2DModel",), "Stable Diffusion 3"),
)  # fmt: skip
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_Sides = tuple[int, int]


def name_of(path: str) -> str:
    """The name of an adapter, by which requests weigh it: its file's, without what no name may hold."""
    stem = path.rpartition("/")[2].removesuffix(".safetensors")
    return _NAME.sub("_", stem)[:64] or "adapter"


@dataclass(frozen=True)
class Changed:
    """The model that a LoRA is to change: which part denoises ("unet" or "transformer") and its class, and tensors of parts.

    `text_width`: numbers that its UNet takes for a token of text, where its settings say it.
    """

    denoiser: str
    kind: str
    parts: Mapping[str, Shapes]
    text_width: int | None = None


def check_fit(path: str, lora: Shapes, model: Changed) -> None:
    """Raise ModelFileError for a file that is no LoRA, or one that is not for this model."""
    denoiser = model.denoiser
    if not is_lora(lora):
        raise ModelFileError(f"{path} is not a LoRA", hint="an adapter of an image model changes some of its layers")
    halves = [(match["stem"], match["half"], lora[match.string]) for name in lora if (match := _HALF.fullmatch(name))]
    stems = [stem for stem, _, _ in halves]
    _check_part(path, denoiser, stems)
    _check_family(path, model.kind, stems)
    _check_text(path, model, halves)
    layers = dict(_layers(denoiser, model.parts))
    for stem, half, shape in halves:
        sides = layers.get(_plain(stem, denoiser))
        if sides is None or len(shape) < 2:
            continue
        found, wanted = (shape[1], sides[1]) if half in ("A", "down") else (shape[0], sides[0])
        if found != wanted:
            raise ModelFileError(f"{path} does not fit the model: {stem} has {wanted} numbers where the LoRA has {found}")


def _check_family(path: str, kind: str, stems: list[str]) -> None:
    """Refuse one whose layers only another family has."""
    for pattern, classes, family in _MARKS:
        if kind and kind not in classes and any(pattern.search(stem) for stem in stems):
            raise ModelFileError(f"{path} does not fit the model: it is made for {family}, the model has a {kind}")


def _check_text(path: str, model: Changed, halves: list[tuple[str, str, tuple[int, ...]]]) -> None:
    """Refuse one for a UNet that reads another text encoder."""
    first = [shape for stem, half, shape in halves if half in ("A", "down") and len(shape) > 1 and _FROM_TEXT.search(stem)]
    found = first[0][1] if first else None
    if model.denoiser != "unet" or None in (found, model.text_width) or found == model.text_width:
        return
    made_for, has = (
        _UNETS.get(width or 0, f"a model whose text has {width} numbers a token") for width in (found, model.text_width)
    )
    raise ModelFileError(f"{path} does not fit the model: it is made for {made_for}, the model is {has}")


def _check_part(path: str, denoiser: str, stems: list[str]) -> None:
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
