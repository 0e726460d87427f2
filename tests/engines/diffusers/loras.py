"""LoRA files of random numbers over denoisers: `python loras.py OUT FOLDER…` writes OUT/NAME.safetensors.

NAME-mixed.safetensors has the same numbers, some layers named in one way, some in another; so has
NAME-scaled.safetensors, which says besides how they are scaled.
"""

import sys
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from serow.engines.diffusers.load import build


def main(out: Path, folder: Path) -> None:
    """Write the file of one folder."""
    torch.manual_seed(3)
    pipe = build(folder, torch.float32)
    name = "transformer" if hasattr(pipe, "transformer") else "unet"
    denoiser = getattr(pipe, name)
    denoiser.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    of_peft = get_peft_model_state_dict(denoiser)
    state = convert_state_dict_to_diffusers(of_peft)
    mixed = {key: tensor for key, tensor in of_peft.items() if "to_q" in key}
    mixed |= {key: tensor for key, tensor in state.items() if "to_q" not in key}
    scale = {f"{name}_lora_adapter_metadata": {"r": 2, "lora_alpha": 2, "target_modules": ["to_q", "to_v"]}}
    for layers, file, more in ((state, "", {}), (mixed, "-mixed", {}), (mixed, "-scaled", scale)):
        given = {f"{name}_lora_layers": layers, "weight_name": f"{folder.name}{file}.safetensors", **more}
        type(pipe).save_lora_weights(out, **given)


if __name__ == "__main__":
    for each in map(Path, sys.argv[2:]):
        main(Path(sys.argv[1]), each)
