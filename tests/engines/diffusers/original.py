"""A folder of Stable Diffusion as one file in the original layout: `python original.py FOLDER WHOLE [DENOISER]`.

DENOISER gets the UNet alone, its tensors without the prefix that they have in a whole checkpoint.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_JOINED = re.compile(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)")

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
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


def open_clip(tensors: dict[str, Any]) -> dict[str, Any]:
    """A text encoder's tensors under OpenCLIP's names, queries, keys and values in one."""
    found = {}
    for name, tensor in _whole_names(tensors).items():
        if match := _JOINED.fullmatch(name):
            if match[2] == "q":
                parts = [_whole_names(tensors)[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
                found[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(parts)
            continue
        new = name.replace("text_model.encoder.layers.", "transformer.resblocks.").replace("layer_norm1", "ln_1")
        new = new.replace("layer_norm2", "ln_2").replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
        new = new.replace("self_attn.out_proj", "attn.out_proj").replace("text_model.final_layer_norm", "ln_final")
        new = new.replace("text_model.embeddings.token_embedding", "token_embedding")
        new = new.replace("text_model.embeddings.position_embedding.weight", "positional_embedding")
        is_projection = name == "text_projection.weight"
        found["text_projection" if is_projection else new] = tensor.T.contiguous() if is_projection else tensor
    return found


def _whole_names(tensors: dict[str, Any]) -> dict[str, Any]:
    """Transformers' names as they are in older files."""
    return {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }


def text(folder: Path, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The text encoders, where each family has them: `cond_stage_model`, or `conditioner.embedders`."""
    first = _whole_names(parts["text_encoder"])
    if "text_encoder_2" in parts:
        second = open_clip(parts["text_encoder_2"])
        return _below("conditioner.embedders.0.transformer.", first) | _below("conditioner.embedders.1.model.", second)
    if json.loads((folder / "text_encoder/config.json").read_bytes())["hidden_act"] == "gelu":
        return _below("cond_stage_model.model.", open_clip(parts["text_encoder"]))
    return _below("cond_stage_model.transformer.", first)


def _below(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


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
    parts = {path.parent.name: load_file(path) for path in folder.glob("*/*.safetensors")}
    configs = {part: json.loads((folder / part / "config.json").read_bytes()) for part in parts}
    drawn = unet(configs["unet"], parts["unet"])
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in drawn.items()}
    whole |= {f"first_stage_model.{name}": tensor for name, tensor in vae(configs["vae"], parts["vae"]).items()}
    whole |= text(folder, parts)
    save_file(whole, out)
    if denoiser is not None:
        save_file(drawn, denoiser)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
