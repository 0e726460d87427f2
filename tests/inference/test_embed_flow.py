"""An Ask for vectors on its way: which models embed, and how they are loaded for it."""

from typing import Any

import pytest

from serow.engines.kinds import Feature
from serow.errors import RequestError
from serow.inference.ask import Ask, Inputs, Nothing, Prompt
from serow.inference.events import Done, Event, Vectors
from serow.store.model import Capability
from tests.support.engine import FakeEngine
from tests.support.flow import flow


async def events(prompt: Prompt, *capabilities: Capability, engine: FakeEngine | None = None, **fields: Any) -> list[Event]:
    async with flow(engine or FakeEngine(), *capabilities, embedding_length=4) as running:
        return [each async for each in running.inference.answer(Ask(model="m", prompt=prompt, stream=False, **fields))]


@pytest.mark.req("EMB-05")
async def test_a_model_made_for_embedding_embeds_without_a_warning() -> None:
    vectors, done = await events(Inputs(["ab", "c"]), "embedding")
    assert isinstance(vectors, Vectors) and len(vectors.embeddings) == 2
    assert isinstance(done, Done) and done.warnings == [] and done.usage.prompt_eval_count == 3


@pytest.mark.req("EMB-05")
async def test_a_model_that_completes_texts_embeds_and_says_that_it_is_not_made_for_it() -> None:
    _, done = await events(Inputs(["ab"]), "completion")
    assert isinstance(done, Done)
    assert done.warnings == ['"m" is not made for embedding: a vector is the mean of its last layer']


@pytest.mark.req("EMB-01")
async def test_options_of_sampling_are_told_and_those_of_loading_are_used() -> None:
    _, done = await events(Inputs(["ab"]), "embedding", options={"temperature": 1.0, "num_ctx": 32, "seed": 3})
    assert isinstance(done, Done)
    assert done.warnings == [
        'option "temperature" was ignored: an embedding does not use it',
        'option "seed" was ignored: an embedding does not use it',
    ]


@pytest.mark.req("EMB-01", "EMB-05")
async def test_an_empty_text_is_embedded_by_a_model_that_begins_no_text_with_a_token() -> None:
    engine = FakeEngine()
    async with flow(engine, embedding_length=4, beginning=(7,)) as running:
        ask = Ask(model="m", prompt=Inputs(["", "ab"]), stream=False)
        vectors, _ = [each async for each in running.inference.answer(ask)]
    assert isinstance(vectors, Vectors) and len(vectors.embeddings) == 2 and engine.embedded[0] == [7]


@pytest.mark.req("EMB-05")
async def test_an_image_model_does_not_embed() -> None:
    with pytest.raises(RequestError, match='"m" does not support embeddings'):
        await events(Inputs(["ab"]), "image")


@pytest.mark.req("EMB-05")
async def test_no_input_loads_the_model_to_embed() -> None:
    async with flow(FakeEngine(), "completion") as running:
        ask = Ask(model="m", prompt=Nothing("embed"), stream=False)
        (done,) = [each async for each in running.inference.answer(ask)]
        assert isinstance(done, Done) and done.reason == "load"
        (loaded,) = running.scheduler.loaded()
        assert loaded.request.embeds and Feature.EMBEDDINGS not in loaded.request.engine.kind.lacks


@pytest.mark.req("EMB-03")
async def test_a_smaller_context_of_the_request_cuts_to_its_own_length() -> None:
    engine = FakeEngine()
    _, done = await events(Inputs(["abcdefghijklmnopqrstuvwxyz"]), "embedding", engine=engine, options={"num_ctx": 16})
    assert [len(tokens) for tokens in engine.embedded] == [16]
    assert isinstance(done, Done) and done.warnings == ["input 0 was cut from 26 to 16 tokens to fit the context"]


@pytest.mark.req("EMB-06")
@pytest.mark.parametrize("normalizes", [True, False])
async def test_vectors_of_the_old_route_are_as_the_model_s_family_has_them(normalizes: bool) -> None:
    async with flow(FakeEngine(), "embedding", normalizes_vectors=normalizes) as running:
        ask = Ask(model="m", prompt=Inputs(["ab"], normalize=None), stream=False)
        vectors, _ = [each async for each in running.inference.answer(ask)]
    assert isinstance(vectors, Vectors)
    assert (vectors.embeddings[0][0] < 1) is normalizes
