"""Single files: which kind of weights one holds, told by the names and shapes of its tensors (PIC-02).

A whole checkpoint in the original layout of Stable Diffusion holds text encoders and autoencoder, and needs nothing else: the
settings and the vocabulary of its parts are known. A denoiser alone (UNet or transformer, also as GGUF) needs a base, which has
the other parts. A LoRA is no model but changes one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from serow.errors import ModelFileError

Shapes = Mapping[str, tuple[int, ...]]
Kind = Literal["sd1", "sd2", "xl", "denoiser"]

PREFIX = "model.diffusion_model."  # of a denoiser's tensors in a checkpoint
VAE = "first_stage_model."
TEXT = ("cond_stage_model.", "conditioner.embedders.0.")
TEXT_2 = "conditioner.embedders.1."
_UNET = ("UNet2DConditionModel",)
_LORA = re.compile(
    r"\.(?:lora_(?:down|up|A|B|mid)(?:\.default)?\.weight|lora\.(?:down|up)\.weight|lora_linear_layer\.(?:down|up)\.weight"
    r"|hada_w\d_[ab]|lokr_w\d(?:_[ab])?|alpha|dora_scale)$|_lora\.(?:down|up)\.weight$"
)
_DENOISERS = {  # a tensor that only these families have: what the class of the part may be
    "input_blocks.0.0.weight": ("UNet2DConditionModel",),
    "down_blocks.0.resnets.0.conv1.weight": ("UNet2DConditionModel",),
    "distilled_guidance_layer.in_proj.weight": ("ChromaTransformer2DModel",),
    "double_stream_modulation_img.lin.weight": ("Flux2Transformer2DModel",),
    "double_stream_modulation_img.linear.weight": ("Flux2Transformer2DModel",),
    "double_blocks.0.img_attn.qkv.weight": ("FluxTransformer2DModel",),
    "single_transformer_blocks.0.proj_mlp.weight": ("FluxTransformer2DModel",),
    "transformer_blocks.0.img_mlp.net.0.proj.weight": ("QwenImageTransformer2DModel",),
    "cap_embedder.0.weight": ("ZImageTransformer2DModel", "Lumina2Transformer2DModel"),
    "joint_blocks.0.x_block.attn.qkv.weight": ("SD3Transformer2DModel",),
    "double_layers.0.attn.w1q.weight": ("AuraFlowTransformer2DModel",),
}


@dataclass(frozen=True)
class Checkpoint:
    """What a single file holds. `prediction`: what its denoiser was trained to tell."""

    kind: Kind
    classes: tuple[str, ...] = ()  # what its denoiser may be
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    zero_snr: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it needs no other parts."""
        return self.kind != "denoiser"


def is_lora(names: Mapping[str, object]) -> bool:
    """Whether a file of these tensors changes a model, and is none."""
    return bool(names) and all(_LORA.search(name) for name in names)


def by_part(tensors: Shapes, denoiser: str = "unet") -> dict[str, Shapes]:
    """The tensors of each part that a file has, by the part's name in a pipeline; `denoiser` is that of the denoiser."""
    if not any(name.startswith(PREFIX) for name in tensors):
        return {denoiser: tensors}
    prefixes: dict[str, str | tuple[str, ...]] = {denoiser: PREFIX, "vae": VAE, "text_encoder": TEXT, "text_encoder_2": TEXT_2}
    found = {
        part: {name: shape for name, shape in tensors.items() if name.startswith(prefix)} for part, prefix in prefixes.items()
    }
    return {part: shapes for part, shapes in found.items() if shapes}


def recognise(path: str, tensors: Shapes) -> Checkpoint:
    """What a file holds; raises ModelFileError for what is no model, or one that can't be drawn with alone."""
    if is_lora(tensors):
        raise ModelFileError(f"{path} is a LoRA, which changes a model", hint=f"FROM the model, and ADAPTER ./{path}")
    parts = by_part(tensors).keys()
    entry = tensors.get(f"{PREFIX}input_blocks.0.0.weight")
    if entry is not None and {"vae", "text_encoder"} <= parts:
        return _whole(path, tensors, entry)
    names = {name.removeprefix(PREFIX) for name in tensors}
    classes = next((classes for name, classes in _DENOISERS.items() if name in names), ())
    if not classes:
        raise ModelFileError(f"{path} holds no model of a kind that is known here")
    return Checkpoint("denoiser", classes)


def _whole(path: str, tensors: Shapes, entry: tuple[int, ...]) -> Checkpoint:
    """A checkpoint of Stable Diffusion with text encoders and autoencoder."""
    if len(entry) != 4 or entry[1] != 4:
        raise ModelFileError(
            f"{path} starts from a picture and a mask: bring its folder", hint="its first layer has more than 4 channels"
        )
    if any(name.startswith(TEXT_2) for name in tensors):
        is_v = "v_pred" in tensors
        return Checkpoint("xl", _UNET, "v_prediction" if is_v else "epsilon", zero_snr="ztsnr" in tensors)
    if any(name.startswith(TEXT[1]) for name in tensors):
        raise ModelFileError(f"{path} is the refiner of Stable Diffusion XL, which starts from a picture: bring the base model")
    if "cond_stage_model.model.token_embedding.weight" in tensors:
        is_base = re.search(r"512|base|epsilon", path.lower()) is not None
        return Checkpoint("sd2", _UNET, "epsilon" if is_base else "v_prediction")
    return Checkpoint("sd1", _UNET, "v_prediction" if "v_pred" in tensors else "epsilon")
