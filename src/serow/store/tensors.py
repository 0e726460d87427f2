"""Image models of Ollama's: a layer for each tensor, in place of files that hold many (PIC-01).

A layer's name is `part/tensor`; its blob is a safetensors file that holds the tensor under its name, its whole name, or `data`.
Quantized ones come in two forms. Until February 2026 they were three layers X, X_scale and X_qbias; since then one blob holds
X, X.scale and X.bias, and says `quant_type` and `group_size`. Affine ones can be unpacked: whole numbers of 4 or 8 bits in
words of 32, the low bits first, each group of a row with a scale and a bias of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from serow.errors import ModelFileError
from serow.store import manifest as media
from serow.store.manifest import Layer
from serow.store.safetensors import Header, Tensor, read_header

FOLDER = "tensors"  # within the folder of a part: a file for each of its tensors
_SUFFIX = ".safetensors"
_SCALE, _BIAS = "_scale", "_qbias"  # of three layers
_GROUP_SIZE = 32  # of three layers, which do not say it
_BITS = (2, 4, 8)
_OTHER_KINDS = ("nvfp4", "mxfp4", "mxfp8")  # floating point formats of one vendor's library
_PACKED = ("U32", "I32")


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor are: a safetensors file, and the name in it."""

    file: Path
    key: str


@dataclass(frozen=True)
class Plain:
    """A tensor as it is."""

    place: Place
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """A tensor that has to be unpacked: `q * scale + bias`. `shape` is that of the unpacked one."""

    place: Place
    scale: Place
    bias: Place
    bits: int
    group_size: int
    shape: tuple[int, ...]


def laid_out(layers: Sequence[Layer]) -> list[Layer]:
    """Those of a model's layers that are files of such a pipeline, named as they are there; none for another kind of model."""
    settings = [layer for layer in layers if layer.media_type == media.JSON]
    if not any(layer.name == "model_index.json" for layer in settings):
        return []
    tensors = [layer for layer in layers if layer.media_type == media.TENSOR]
    return [*settings, *(msgspec.structs.replace(layer, name=_path(layer.name)) for layer in tensors)]


def _path(name: str) -> str:
    part, slash, tensor = name.partition("/")
    if not slash or "/" in tensor:
        raise ModelFileError(f'the layer "{name}" names no tensor of a part')
    return f"{part}/{FOLDER}/{tensor}{_SUFFIX}"


def refuse_kind(kind: object, what: str) -> None:
    """Refuse a quantization that can't be unpacked here, by its name; raises ModelFileError."""
    name = str(kind).lower()
    if name in _OTHER_KINDS:
        hint = "bring one in bf16, int8 or int4"
        raise ModelFileError(f"{what} is quantized as {name}, which only Ollama's own engine reads", hint=hint)


def tensors_of(files: Mapping[str, Path], part: str) -> dict[str, Plain | Affine]:
    """The tensors of a part by name; `files` by the name of the layer within the part. Raises ModelFileError, StoreError."""
    headers = {name: read_header(path) for name, path in files.items()}
    mains = {name for name in headers if not _is_companion(name, headers)}
    return {name: _tensor(name, headers, files, part) for name in sorted(mains)}


def _is_companion(name: str, headers: Mapping[str, Header]) -> bool:
    """Whether a layer holds scales or biases of another one."""
    return any(name.endswith(suffix) and name.removesuffix(suffix) in headers for suffix in (_SCALE, _BIAS))


def _tensor(name: str, headers: Mapping[str, Header], files: Mapping[str, Path], part: str) -> Plain | Affine:
    header = headers[name]
    refuse_kind(header.metadata.get("quant_type"), f"the part {part}")
    key = _key(name, header, part)
    tensor = header.tensors[key]
    place = Place(files[name], key)
    if f"{key}.scale" in header.tensors:
        scale, bias = (Place(files[name], f"{key}.{each}") for each in ("scale", "bias"))
        if bias.key not in header.tensors:
            raise _unknown(part, name)
        group_size = _number(header.metadata.get("group_size"), part, name)
        return _affine(
            part, name, (place, scale, bias), (tensor, header.tensors[scale.key], header.tensors[bias.key]), group_size
        )
    if name + _SCALE in headers:
        if name + _BIAS not in headers:
            raise _unknown(part, name)
        keys = [_key(each, headers[each], part) for each in (name + _SCALE, name + _BIAS)]
        scale, bias = (Place(files[each], key) for each, key in zip((name + _SCALE, name + _BIAS), keys, strict=True))
        others = [headers[name + suffix].tensors[key] for suffix, key in zip((_SCALE, _BIAS), keys, strict=True)]
        return _affine(part, name, (place, scale, bias), (tensor, *others), _GROUP_SIZE)
    return Plain(place, tuple(tensor.shape))


def _affine(part: str, name: str, places: tuple[Place, Place, Place], tensors: tuple[Tensor, ...], group_size: int) -> Affine:
    """Check that packed numbers, scales and biases fit each other, and tell how many bits a number has."""
    packed, scale, bias = tensors
    rows, groups = scale.shape[:-1], (scale.shape or [0])[-1]
    columns = groups * group_size
    bits = 32 * packed.shape[-1] // columns if packed.shape and columns else 0
    fits = packed.shape[:-1] == rows and scale.shape == bias.shape and bits in _BITS
    if packed.dtype not in _PACKED or not fits or 32 * packed.shape[-1] != bits * columns:
        raise ModelFileError(f"the part {part}: the numbers of {name} do not fit their scales")
    return Affine(*places, bits, group_size, (*rows, columns))


def _key(name: str, header: Header, part: str) -> str:
    for key in (name, f"{part}/{name}", "data"):
        if key in header.tensors:
            return key
    raise ModelFileError(f"the part {part}: the file of {name} does not hold it")


def _number(text: str | None, part: str, name: str) -> int:
    if text is None:
        return _GROUP_SIZE
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 5 or int(text) == 0:
        raise ModelFileError(f"the part {part}: the group size of {name} is no number")
    return int(text)


def _unknown(part: str, name: str) -> ModelFileError:
    return ModelFileError(f"the part {part}: {name} is quantized in a way that only Ollama's own engine reads")


def count_parameters(found: Mapping[str, Plain | Affine]) -> int:
    """How many numbers the tensors of a part have, unpacked."""
    return sum(math.prod(tensor.shape) for tensor in found.values())
