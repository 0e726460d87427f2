"""SmolLM2's GGUF as a folder of Hugging Face's kind, with nothing fetched: write_safetensors.py GGUF FOLDER.

Runs with the Python of the environment that has vLLM, which brings torch and transformers.
"""

import shutil
import sys
import tempfile
from pathlib import Path


def main(source: Path, folder: Path) -> None:
    """Write config, tokenizer and weights (bfloat16)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        shutil.copy(source, Path(place, "model.gguf"))
        AutoTokenizer.from_pretrained(place, gguf_file="model.gguf").save_pretrained(folder)
        loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file="model.gguf", dtype=torch.float32)
    del loaded.config.quantization_config  # what is saved is not quantized
    plain = type(loaded)(loaded.config)
    plain.load_state_dict(loaded.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
