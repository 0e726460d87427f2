"""Weights of parts that come from a single file: a checkpoint in the original layout, a denoiser alone, a GGUF file.

Names and layouts are diffusers' own conversions; the parts are checked as those of folders are. Imported in the child only.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint
from diffusers.quantizers.gguf.utils import dequantize_functions
from gguf import GGML_QUANT_SIZES, GGUFReader

from serow.engines.diffusers.weights import Lazies, Lazy, of_file
from serow.errors import LoadError
from serow.store.checkpoint import PREFIX, TEXT, TEXT_2, VAE
from serow.store.gguf import ORIGINAL_SHAPE

_DENOISERS = ("unet", "transformer")
_PREFIXES = {"unet": PREFIX, "transformer": PREFIX, "vae": VAE}
_OPEN_CLIP = "model.token_embedding.weight"  # of text encoders in OpenCLIP's layout


def weights_in(file: Path, part: str, model: Any, config: Any, dtype: torch.dtype) -> Lazies:
    """The weights of a network of diffusers in a file, under the names that it has for them; raises LoadError."""
    found = _below(_read(file, dtype), _PREFIXES[part])
    wanted = model.state_dict().keys()
    if not found.keys().isdisjoint(wanted) and len(found.keys() & wanted) > len(wanted) // 2:
        return found
    kind = next((name for name in _kinds(model) if name in SINGLE_FILE_LOADABLE_CLASSES), "")
    if not kind:
        raise LoadError(f"the part {part} ({type(model).__name__}) can't be made of a single file")
    convert = SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"]
    tensors = {f"{_PREFIXES[part] if part in ('unet', 'vae') else ''}{name}": lazy[...] for name, lazy in found.items()}
    return _lazies(convert(checkpoint=tensors, config=config))


def text_encoder_in(file: Path, part: str, config: Any, dtype: torch.dtype) -> Lazies:
    """The weights of a text encoder in a checkpoint, under transformers' names."""
    every = _read(file, dtype)
    prefix = TEXT_2 if part == "text_encoder_2" else next(each for each in TEXT if any(name.startswith(each) for name in every))
    tensors = {name: lazy[...] for name, lazy in every.items() if name.startswith(prefix)}
    if f"{prefix}{_OPEN_CLIP}" not in tensors:
        return _lazies(convert_ldm_clip_checkpoint(tensors))
    return _lazies(convert_open_clip_checkpoint(_Configured(config), tensors, prefix=f"{prefix}model."))


class _Configured:
    """What the conversion asks a model for."""

    def __init__(self, config: Any) -> None:
        self.config = config


def _kinds(model: Any) -> Iterable[str]:
    return (kind.__name__ for kind in type(model).__mro__)


def _read(file: Path, dtype: torch.dtype) -> Lazies:
    return _of_gguf(file, dtype) if file.suffix == ".gguf" else of_file(file)


def _below(weights: Lazies, prefix: str) -> Lazies:
    """The tensors below a prefix, without it; all of them when none is."""
    found = {name.removeprefix(prefix): lazy for name, lazy in weights.items() if name.startswith(prefix)}
    return found or weights


def _lazies(tensors: dict[str, torch.Tensor]) -> Lazies:
    return {name: Lazy(tuple(tensor.shape), _keeper(tensor)) for name, tensor in tensors.items()}


def _keeper(tensor: torch.Tensor) -> Any:
    return lambda: tensor


def _of_gguf(file: Path, dtype: torch.dtype) -> Lazies:
    """The tensors of a GGUF file, unpacked when they are read."""
    reader = GGUFReader(file)
    shapes = {
        name.removeprefix(ORIGINAL_SHAPE): tuple(map(int, field.contents()))
        for name, field in reader.fields.items()
        if name.startswith(ORIGINAL_SHAPE)
    }
    found = {}
    for tensor in reader.tensors:
        shape = shapes.get(tensor.name, tuple(map(int, reversed(tensor.shape))))
        found[tensor.name] = Lazy(shape, _unpacker(tensor, shape, dtype))
    return found


def _unpacker(tensor: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    def unpack() -> torch.Tensor:
        data = torch.from_numpy(tensor.data.copy())
        kind = tensor.tensor_type
        if kind.name not in ("F32", "F16"):
            if kind not in dequantize_functions:
                raise LoadError(f"{tensor.name} is packed as {kind.name}, which is not read here")
            block, size = GGML_QUANT_SIZES[kind]
            data = dequantize_functions[kind](data.view(torch.uint8).reshape(-1, size), block, size, dtype=torch.float32)
        return data.to(dtype).reshape(shape)

    return unpack
