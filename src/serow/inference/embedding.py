"""Texts become vectors (EMB-02 to EMB-04): tokens, cut to the context; one vector each, its first numbers, its length 1."""

import asyncio
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from serow.engines.base import TextRunner
from serow.errors import EngineError, RequestError
from serow.inference.ask import Inputs
from serow.prompt.ends import beginning_of
from serow.store.model import Model

_FLOAT32_DIGITS = range(6, 10)  # that tell every float32 from its neighbours


@dataclass(frozen=True)
class Embedded:
    """Vectors in the order of the inputs, the tokens that they were made of, and what was cut."""

    embeddings: list[list[float]]
    prompt_eval_count: int
    warnings: list[str]


async def embed(wanted: Inputs, model: Model, runner: TextRunner, num_ctx: int, *, truncate: bool) -> Embedded:
    """One vector for each input; `num_ctx` in tokens holds for each of them. Raises RequestError, EngineError."""
    dimensions = _dimensions(wanted.dimensions, model.embedding_length)
    tokens, warnings = await _tokens(wanted.inputs, model, runner, num_ctx, truncate=truncate)
    vectors = await runner.embed(tokens)
    normalize = model.normalizes_vectors if wanted.normalize is None else wanted.normalize
    embeddings = await asyncio.to_thread(finished, vectors, dimensions, normalize=normalize)
    return Embedded(embeddings, sum(map(len, tokens)), warnings)


def _dimensions(wanted: int | None, available: int) -> int | None:
    """How many numbers a vector keeps; None for all of them, as 0 asks for, too."""
    if wanted is not None and not 0 <= wanted <= (available or wanted):
        text = f"dimensions must be between 1 and {available}, the length of the model's vectors"
        raise RequestError(text, param="dimensions", code="invalid_value")
    return wanted or None


async def _tokens(
    inputs: Sequence[str | Sequence[int]], model: Model, runner: TextRunner, num_ctx: int, *, truncate: bool
) -> tuple[list[list[int]], list[str]]:
    special = await runner.tokenize("", add_special=True)
    found: dict[int, list[int]] = {}
    warnings: dict[int, str] = {}
    for index in sorted(range(len(inputs)), key=lambda index: len(inputs[index]), reverse=True):  # what is refused, at once
        tokens, is_all = await _ids(inputs[index], index, model, runner, num_ctx)
        if len(tokens) > num_ctx:
            count = f"{len(tokens)}" if is_all else f"at least {len(tokens)}"
            if not truncate:
                raise RequestError(_too_long(index, count, num_ctx), param="input", code="context_length_exceeded")
            warnings[index] = f"input {index} was cut from {count} to {num_ctx} tokens to fit the context"
            tokens = _cut(tokens, special, num_ctx)
        found[index] = tokens or special or list(model.beginning)
    return [found[index] for index in sorted(found)], [warnings[index] for index in sorted(warnings)]


async def _ids(
    given: str | Sequence[int], index: int, model: Model, runner: TextRunner, num_ctx: int
) -> tuple[list[int], bool]:
    """The ids of an input, and whether these are all."""
    if not isinstance(given, str):
        return _known(given, index, model), True
    return await beginning_of(given, num_ctx, runner, partial(runner.tokenize, add_special=True))


def _known(tokens: Sequence[int], index: int, model: Model) -> list[int]:
    beyond = next((token for token in tokens if not 0 <= token < model.vocab_size), None)
    if beyond is not None:
        known = f"the model knows ids from 0 to {model.vocab_size - 1}"
        raise RequestError(f"input {index} holds the token id {beyond}; {known}", param="input", code="invalid_value")
    return list(tokens)


def _too_long(index: int, count: str, num_ctx: int) -> str:
    return f"the input length exceeds the context length: input {index} has {count} tokens, the context holds {num_ctx}"


def _cut(tokens: list[int], special: list[int], num_ctx: int) -> list[int]:
    """The first `num_ctx` tokens, the last of them those special ones that close every text."""
    opening = next((n for n, pair in enumerate(zip(special, tokens, strict=False)) if pair[0] != pair[1]), len(special))
    closing = special[opening:]
    kept = num_ctx - len(closing)
    if kept <= opening:
        raise RequestError("input after truncation exceeds maximum context length")
    return tokens[:kept] + closing


def finished(vectors: list[list[float]], dimensions: int | None, *, normalize: bool) -> list[list[float]]:
    """Cut, normalise and round to the digits of a float32. Blocks: a millisecond a vector."""
    return [_rounded(_normalized(vector[:dimensions]) if normalize else vector[:dimensions]) for vector in vectors]


def _normalized(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(number * number for number in vector))
    return [number / length for number in vector] if length else vector


def _rounded(vector: list[float]) -> list[float]:
    """The shortest decimal fractions that are the same float32."""
    if not all(map(math.isfinite, vector)):
        raise EngineError("the model made a vector that holds no numbers")
    kind = struct.Struct(f"<{len(vector)}f")
    return [_shortest(number) for number in kind.unpack(kind.pack(*vector))]


def _shortest(number: float) -> float:
    for digits in _FLOAT32_DIGITS:
        text = float(f"{number:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", text))[0] == number:
            return text
    return number
