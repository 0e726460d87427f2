"""LoRA files of random numbers over denoisers: `python loras.py OUT FOLDER…` writes OUT/NAME.safetensors."""

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
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(denoiser))
    type(pipe).save_lora_weights(out, **{f"{name}_lora_layers": state}, weight_name=f"{folder.name}.safetensors")


if __name__ == "__main__":
    for each in map(Path, sys.argv[2:]):
        main(Path(sys.argv[1]), each)
