"""Tensors of a part's files, read one by one when somebody asks for them. Imported in the child only.

What is stored as it is used stays a view of the mapped file; the rest is unpacked or converted tensor by tensor, so that never
more than one of them is in memory twice.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from serow.store.safetensors import read_header
from serow.store.tensors import FOLDER, Affine, Place, Plain, tensors_of

_BLOCK = 1 << 17  # numbers that are unpacked at once: they stay in the cache
_SUFFIX = ".safetensors"


class Lazy:
    """A tensor that is not read yet. `lazy[...]` reads it, as transformers' own loading does with slices of a file."""

    def __init__(self, shape: tuple[int, ...], read: Callable[[], torch.Tensor]) -> None:
        self.shape = shape
        self._read = read

    def __getitem__(self, _: Any) -> torch.Tensor:
        return self._read()

    def get_shape(self) -> list[int]:
        """Its sides."""
        return list(self.shape)


Lazies = dict[str, Lazy]


def weights_of(folder: Path, dtype: torch.dtype) -> Lazies:
    """The tensors of a part by name; those that have to be unpacked come in `dtype`. Raises ModelFileError."""
    single = folder / FOLDER
    if single.is_dir():
        files = {path.name.removesuffix(_SUFFIX): path for path in single.iterdir()}
        return {name: _lazy(tensor, dtype) for name, tensor in tensors_of(files, folder.name).items()}
    found: Lazies = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        found |= of_file(path)
    return found


def of_file(path: Path) -> Lazies:
    """Every tensor of a safetensors file, as it is."""
    shapes = {name: tuple(tensor.shape) for name, tensor in read_header(path).tensors.items()}
    file = safe_open(path, framework="pt")
    return {name: Lazy(shape, _reader(file, name)) for name, shape in shapes.items()}


def _reader(file: Any, name: str) -> Callable[[], torch.Tensor]:
    return lambda: file.get_tensor(name)


def _lazy(tensor: Plain | Affine, dtype: torch.dtype) -> Lazy:
    if isinstance(tensor, Plain):
        return Lazy(tensor.shape, lambda: _mapped(tensor.place))
    return Lazy(tensor.shape, lambda: unpack(tensor, dtype))


def _mapped(place: Place) -> torch.Tensor:
    """A tensor that is a view of its file."""
    with safe_open(place.file, framework="pt") as file:
        return file.get_tensor(place.key)


def unpack(tensor: Affine, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of an affine tensor, `q * scale + bias` in 32 bits, as `dtype`. About a gigabyte a second on a core."""
    packed, scale, bias = map(_mapped, (tensor.place, tensor.scale, tensor.bias))
    *_, columns = tensor.shape
    groups = scale.shape[-1]
    rows = packed.numel() // max(packed.shape[-1], 1)
    words, scale, bias = packed.reshape(rows, -1), scale.reshape(rows, groups, 1), bias.reshape(rows, groups, 1)
    out = torch.empty(rows, groups, tensor.group_size, dtype=dtype)
    step = max(1, _BLOCK // max(columns, 1))
    for start in range(0, rows, step):
        here = slice(start, start + step)
        numbers = _numbers(words[here], tensor.bits).view(-1, groups, tensor.group_size)
        out[here] = numbers.float().mul_(scale[here].float()).add_(bias[here].float())
    return out.view(tensor.shape)


def _numbers(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Whole numbers of 32-bit words, the low bits first: of their bytes in memory, which are little endian."""
    octets = words.contiguous().view(torch.uint8)
    if bits == 8:
        return octets
    shifts = range(0, 8, bits)
    return torch.stack([(octets >> shift) & ((1 << bits) - 1) for shift in shifts], -1)
