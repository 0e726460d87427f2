"""Vectors from a llama.cpp child: of a sentence-embedding model, and of a model that completes texts."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from serow.engines.llamacpp.runner import LlamaRunner
from serow.settings import Settings
from tests.engines.llamacpp.engines import load_request
from tests.support import minilm

TEXTS = ["The cat sits on the mat.", "A feline rests on a rug.", "Interest rates rose again in May."]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


async def runner_of(weights: Path, *, capability: str, num_parallel: int = 4) -> LlamaRunner:
    request = load_request(weights, num_parallel=num_parallel)
    model = replace(request.model, capabilities=(capability,))  # type: ignore[arg-type]
    runner = LlamaRunner(replace(request, model=model, embeds=True), Settings())
    await runner.load()
    return runner


@pytest_asyncio.fixture(scope="module")
async def sentences() -> AsyncIterator[LlamaRunner]:
    """all-MiniLM-L6-v2 in four slots of 512 tokens."""
    runner = await runner_of(minilm.gguf(), capability="embedding")
    yield runner
    await runner.close()


async def test_vectors_are_those_of_the_package_that_the_weights_come_from(sentences: LlamaRunner) -> None:
    ids = [await sentences.tokenize(text, add_special=True) for text in TEXTS]
    for own, theirs in zip(await sentences.embed(ids), minilm.reference(TEXTS), strict=True):
        assert cosine(own, theirs) > 0.999  # the weights are quantised to 8 bits


async def test_an_input_as_long_as_the_context_is_embedded_whole(sentences: LlamaRunner) -> None:
    ids = await sentences.tokenize("word " * 510, add_special=True)
    assert len(ids) == 512
    vectors = await sentences.embed([ids, ids[:256]])
    assert cosine(*vectors) < 0.9999


async def test_many_inputs_come_back_in_their_order(sentences: LlamaRunner) -> None:
    ids = [await sentences.tokenize(f"{number} apples", add_special=True) for number in range(20)]
    together = await sentences.embed(ids)
    for number in (0, 7, 19):
        (alone,) = await sentences.embed([ids[number]])
        assert cosine(alone, together[number]) > 0.999


async def test_a_model_that_completes_texts_embeds_by_the_mean_of_its_tokens(zoo: Path) -> None:
    runner = await runner_of(zoo / "zoo-think.gguf", capability="completion")
    try:
        same, again, other = await runner.embed(
            [await runner.tokenize(text, add_special=True) for text in ("Hi", "Hi", "2+3=")]
        )
    finally:
        await runner.close()
    assert cosine(same, again) > 0.999
    assert cosine(same, other) < 0.999


@pytest.mark.parametrize("inputs", [[[1, 2]] * 3, [[1] * 9000, [2], [3] * 8191, [4, 4]]])
async def test_inputs_are_grouped_in_order_and_none_is_lost(inputs: list[list[int]]) -> None:
    from serow.engines.llamacpp.runner import _groups

    groups = list(_groups(inputs))
    assert [each for group in groups for each in group] == inputs
    assert all(len(group) == 1 or sum(map(len, group)) <= 8192 for group in groups)
