"""A folder of Stable Diffusion as one file in the original layout: `python original.py FOLDER WHOLE [DENOISER]`.

DENOISER gets the UNet alone, its tensors without the prefix that they have in a whole checkpoint.
"""

import json
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet(config: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """The UNet's tensors under their original names."""
    layers, count = config["layers_per_block"], len(config["block_out_channels"])
    places = {
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for i in range(count):
        for j in range(layers):
            places[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.0"
            places[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.1"
        places[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(layers + 1) * (i + 1)}.0.op"
        for j in range(layers + 1):
            places[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{(layers + 1) * i + j}.0"
            places[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{(layers + 1) * i + j}.1"
        place = 2 if "CrossAttn" in config["up_block_types"][i] else 1
        places[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{(layers + 1) * i + layers}.{place}"
    found = {}
    for name, tensor in tensors.items():
        new = renamed(name, {**places, **_ENDS})
        found[renamed_in(new, _RESNET) if ".resnets." in name else new] = tensor
    return found


def vae(config: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """The autoencoder's tensors under their original names."""
    count = len(config["block_out_channels"])
    found = {}
    for name, tensor in tensors.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("mid_block.attentions.0", "mid.attn_1")
        for i in range(count):
            new = new.replace(f"down_blocks.{i}.resnets.", f"down.{i}.block.").replace(
                f"down_blocks.{i}.downsamplers.0", f"down.{i}.downsample"
            )
            up = count - 1 - i
            new = new.replace(f"up_blocks.{i}.resnets.", f"up.{up}.block.").replace(
                f"up_blocks.{i}.upsamplers.0", f"up.{up}.upsample"
            )
        if "attn_1" in new:
            new = renamed_in(new, _ATTENTION)
            tensor = tensor[..., None, None].contiguous() if tensor.ndim == 2 else tensor
        found[new] = tensor
    return found


def renamed(name: str, places: dict[str, str]) -> str:
    """A name whose beginning is another one."""
    for old, new in sorted(places.items(), key=lambda pair: -len(pair[0])):
        if name.startswith(f"{old}."):
            return new + name[len(old) :]
    return name


def renamed_in(name: str, places: dict[str, str]) -> str:
    """A name with a part of it replaced."""
    for old, new in places.items():
        if f".{old}." in name:
            return name.replace(f".{old}.", f".{new}.")
    return name


def main(folder: Path, out: Path, denoiser: Path | None) -> None:
    """Write the files."""
    parts = {part: load_file(next((folder / part).glob("*.safetensors"))) for part in ("unet", "vae", "text_encoder")}
    configs = {part: json.loads((folder / part / "config.json").read_bytes()) for part in parts}
    drawn = unet(configs["unet"], parts["unet"])
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in drawn.items()}
    whole |= {f"first_stage_model.{name}": tensor for name, tensor in vae(configs["vae"], parts["vae"]).items()}
    whole |= {f"cond_stage_model.transformer.{name}": tensor for name, tensor in parts["text_encoder"].items()}
    save_file(whole, out)
    if denoiser is not None:
        save_file(drawn, denoiser)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
