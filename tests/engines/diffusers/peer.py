"""Folders of diffusers as Ollama stores image models: `python peer.py OUT FOLDER…`, in each form: plain, three, one.

OUT/NAME-FORM gets `layers.json` with media type, name and file of every layer, and `unpacked`: a folder with the same numbers.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_GROUP = 32
_BITS = {"three": 8, "one": 4}  # as their layers have: "FP8" of old models, int4 of newer ones
_TENSOR, _JSON = "application/vnd.ollama.image.tensor", "application/vnd.ollama.image.json"


def quantized(weight: Any, bits: int) -> tuple[Any, Any, Any, Any]:
    """Packed words, scales, biases, and the numbers that they stand for."""
    groups = weight.float().reshape(weight.shape[0], -1, _GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale, bias = ((high - low) / (2**bits - 1)).clamp(min=1e-6).bfloat16(), low.bfloat16()
    whole = ((groups - bias.float()) / scale.float()).round().clamp(0, 2**bits - 1)
    numbers = whole.long().reshape(weight.shape[0], -1, 32 // bits)
    words = sum(numbers[..., place] << (place * bits) for place in range(32 // bits))
    unpacked = (whole * scale.float() + bias.float()).reshape(weight.shape)
    return words.to(torch.uint32), scale.squeeze(-1), bias.squeeze(-1), unpacked


class Layers:
    """The layers of a model, one file each."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.found: list[tuple[str, str, str]] = []

    def tensors(self, name: str, tensors: dict[str, Any], **metadata: str) -> None:
        """A layer of tensors."""
        file = f"{len(self.found)}.safetensors"
        save_file(tensors, self.out / file, metadata=metadata or None)
        self.found.append((_TENSOR, name, file))

    def weight(self, part: str, name: str, weight: Any, form: str) -> Any:
        """The layers of a tensor; returns the numbers that it has then."""
        if form == "plain" or part == "vae" or weight.ndim != 2 or weight.shape[1] % _GROUP or "embed_tokens" in name:
            weight = weight.bfloat16()
            self.tensors(f"{part}/{name}", {name if len(self.found) % 2 else "data": weight})
            return weight
        words, scale, bias, unpacked = quantized(weight, _BITS[form])
        if form == "three":
            for suffix, tensor in (("", words), ("_scale", scale), ("_qbias", bias)):
                self.tensors(f"{part}/{name}{suffix}", {f"{part}/{name}{suffix}": tensor})
        else:
            every = {name: words, f"{name}.scale": scale, f"{name}.bias": bias}
            self.tensors(f"{part}/{name}", every, quant_type=f"int{_BITS[form]}", group_size=str(_GROUP))
        return unpacked

    def settings(self, name: str, data: bytes) -> None:
        """A layer of settings."""
        file = f"{len(self.found)}.json"
        (self.out / file).write_bytes(data)
        self.found.append((_JSON, name, file))


def main(folder: Path, out: Path, form: str) -> None:
    """Write the layers, and the folder that has the same numbers."""
    unpacked = Path(shutil.copytree(folder, out / "unpacked"))
    layers = Layers(out)
    for file in sorted(unpacked.rglob("*.safetensors")):
        part = file.parent.name
        save_file({name: layers.weight(part, name, weight, form) for name, weight in load_file(file).items()}, file)
    for file in sorted(unpacked.rglob("*.json")):
        name = file.relative_to(unpacked).as_posix()
        data = file.read_bytes()
        if name == "model_index.json":
            index = json.loads(data)
            index["architecture"] = index.pop("_class_name")
            del index["_diffusers_version"]
            data = json.dumps({**index, "parameter_count": 123_456, "quantization": form.upper()}).encode()
        if name == "tokenizer/tokenizer_config.json" and folder.name == "z_image":  # as its real folder has it
            template = (unpacked / "tokenizer/chat_template.jinja").read_text()
            data = json.dumps({**json.loads(data), "chat_template": template}).encode()
        if not name.endswith("special_tokens_map.json"):
            layers.settings(name, data)
    (out / "layers.json").write_text(json.dumps(layers.found))


if __name__ == "__main__":
    for each in map(Path, sys.argv[2:]):
        for wanted in ("plain", *_BITS):
            main(each, Path(sys.argv[1]) / f"{each.name}-{wanted}", wanted)
