"""From a description to what a pipeline draws after: read once for several pictures, weighted where the encoder is CLIP.

A piece of weight w lies w times as far from where an empty description has the same place: 0 is as if nothing stood there.
Imported in the child only.
"""

import inspect
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from serow.engines.diffusers.emphasis import Piece, has_numbers, pieces_of, plain

_TEXTS = {"prompt": "prompt", "negative_prompt": "options.negative_prompt"}  # arguments, and the fields that they come from
_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_MOST_REMEMBERED = 4  # of some megabytes each
_SIMPLE = (str, int, float, tuple, torch.device, torch.dtype, type(None))


def reads_weights(pipe: Any) -> bool:
    """Whether all that reads the description is CLIP, where each token keeps its place."""
    kinds = [type(part).__name__ for name in _ENCODERS if (part := getattr(pipe, name, None)) is not None]
    return bool(kinds) and all(kind.startswith("CLIPTextModel") for kind in kinds) and hasattr(pipe, "encode_prompt")


def plain_texts(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, str]:
    """What the text encoder reads of the texts among a pipeline's arguments; raises RequestError for weights out of bounds."""
    texts = {name: arguments[name] for name in _TEXTS if arguments.get(name)}
    if not reads_weights(pipe):
        return texts
    return {name: plain(pieces_of(text, _TEXTS[name])) for name, text in texts.items()}


def unread_weights(pipe: Any, arguments: Mapping[str, Any]) -> list[str]:
    """A warning for each text with weights that the pipeline does not know."""
    if reads_weights(pipe):
        return []
    names = [name.replace("_", " ") for name in _TEXTS if has_numbers(arguments.get(name) or "")]
    return [f"the weights in the {name} were read as text: the model does not know them" for name in names]


class Encoding:
    """Stands for the `encode_prompt` of a pipeline, for as long as its text encoders are as they are."""

    def __init__(self, pipe: Any) -> None:
        self._is_weighted = reads_weights(pipe)
        self._tokenizer: Any = getattr(pipe, "tokenizer", None) or getattr(pipe, "tokenizer_2", None)
        self._encode = pipe.encode_prompt
        self._signature = inspect.signature(pipe.encode_prompt)
        self._remembered: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        pipe.encode_prompt = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the pipeline's own returns."""
        given = self._signature.bind(*args, **kwargs).arguments
        if not all(isinstance(value, _SIMPLE) for value in given.values()):
            return self._encode(*args, **kwargs)
        key = tuple(given.items())
        encoded = self._remembered.pop(key, None) or (self._weighted(given) if self._is_weighted else self._encode(**given))
        if not isinstance(encoded, tuple):
            return encoded
        self._remembered[key] = encoded
        if len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return tuple(map(_copied, encoded))

    def forget(self) -> None:
        """The text encoders read otherwise from now on."""
        self._remembered.clear()

    def _weighted(self, given: Mapping[str, Any]) -> Any:
        """As the pipeline's own, without brackets; where there are weights, with these."""
        read = {name: pieces_of(given[name], field) for name, field in _TEXTS.items() if isinstance(given.get(name), str)}
        encoded = self._encode(**{**given, **{name: plain(pieces) for name, pieces in read.items()}})
        weighted = {name: pieces for name, pieces in read.items() if any(piece.weight != 1 for piece in pieces)}
        if not weighted:
            return encoded
        empty, found = self._encode(**{**given, **dict.fromkeys(read, "")}), list(encoded)
        for index, name in enumerate(_TEXTS):  # in the order in which every pipeline returns them
            if name in weighted and found[index] is not None:
                weights = self._weights(weighted[name], found[index].shape[1]).to(found[index])
                apart = empty[index] + (found[index] - empty[index]) * weights
                found[index] = torch.where(weights == 1, found[index], apart)
        return tuple(found)

    def _weights(self, pieces: Sequence[Piece], length: int) -> torch.Tensor:
        """The weight of each token: that of the piece in which it begins."""
        cut = {"padding": "max_length", "max_length": length, "truncation": True}
        read = self._tokenizer(plain(pieces), return_offsets_mapping=True, **cut)
        ends = list(accumulate(len(piece.text) for piece in pieces))
        weights = [pieces[bisect(ends, begin)].weight if end > begin else 1.0 for begin, end in read.offset_mapping]
        return torch.tensor(weights).view(1, -1, 1)


def _copied(part: Any) -> Any:
    """A part of what was encoded, which a pipeline may change."""
    if isinstance(part, list):
        return [_copied(each) for each in part]
    return part.clone() if isinstance(part, torch.Tensor) else part
