"""LoRA adapters: whether one fits the model that it is to change, before anybody loads both.

The rules are those by which llama.cpp refuses an adapter (`llama-adapter.cpp`); its own refusal would come with the first
request. A pair of tensors `NAME.lora_a`, `NAME.lora_b` changes the model's tensor NAME: `a` reads its columns, `b` writes its
rows.
"""

from collections.abc import Iterator
from pathlib import Path

from serow.errors import ModelFileError
from serow.store import gguf
from serow.store.gguf import Gguf, Tensor

_HALVES = (".lora_a", ".lora_b")
_EMBEDDING = "token_embd.weight"  # whose rows are looked up: its halves change places
_IGNORED = "_norm.weight"  # llama.cpp leaves these alone


def check_files(adapter: Path, model: Path) -> None:
    """`check_fit` of two files; raises StoreError, too."""
    check_fit(gguf.read(adapter), gguf.read(model))


def check_fit(adapter: Gguf, model: Gguf) -> None:
    """Raise ModelFileError with what does not fit."""
    metadata = adapter.metadata
    if metadata.get("general.type") != "adapter" or metadata.get("adapter.type") != "lora":
        raise ModelFileError("the file is not a LoRA adapter")
    made_for, architecture = metadata.get("general.architecture"), model.metadata.get("general.architecture")
    if made_for != architecture:
        raise ModelFileError(f"the adapter does not fit the model: it is made for {made_for}, the model is {architecture}")
    pairs = dict(_pairs(adapter))
    if not pairs:
        raise ModelFileError("the adapter changes nothing: it has no LoRA tensors")
    tensors = {tensor.name: tensor for tensor in model.tensors}
    for name, (a, b) in pairs.items():
        if name not in tensors:
            raise ModelFileError(f'the adapter does not fit the model: that has no tensor "{name}"')
        _check_shapes(name, a, b, tensors[name])


def _pairs(adapter: Gguf) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """The two halves of every change, by the tensor that they change."""
    tensors = {tensor.name: tensor for tensor in adapter.tensors}
    for name in tensors:
        base, dot, half = name.rpartition(".")
        if name.endswith(_IGNORED):
            continue
        if dot + half not in _HALVES:
            raise ModelFileError(f'the adapter has a tensor that is no half of a LoRA: "{name}"')
        a, b = (tensors.get(base + each) for each in _HALVES)
        if a is None or b is None:
            raise ModelFileError(f'the adapter has only one half of the change of "{base}"')
        yield base, (a, b)


def _check_shapes(name: str, a: Tensor, b: Tensor, tensor: Tensor) -> None:
    (a0, a1, *a_rest), (b0, b1, *b_rest), (columns, rows, *rest) = map(_sides, (a, b, tensor))
    is_embedding = name.endswith(_EMBEDDING)
    changed, ranks = ((b1, a1), (a0, b0)) if is_embedding else ((a0, b1), (a1, b0))
    if changed != (columns, rows) or ranks[0] != ranks[1] or not a_rest == b_rest == rest:
        raise ModelFileError(f'the adapter does not fit the model: the shapes of "{name}" differ')


def _sides(tensor: Tensor) -> tuple[int, ...]:
    """Columns, rows, and what else there is."""
    return tensor.shape if len(tensor.shape) > 1 else (*tensor.shape, 1)
