"""Texts and token lists become vectors: what is cut, what is refused, what comes back."""

import math
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import EngineError, RequestError
from serow.inference.ask import Inputs
from serow.inference.embedding import Embedded, embed, finished
from tests.support.engine import FakeEngine
from tests.support.flow import model

OPENING, CLOSING = 1, 2


class Bert(FakeEngine):
    """Puts a token before and one behind every text, as models made for embedding do."""

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        tokens = await super().tokenize(text, add_special=False)
        return [OPENING, *tokens, CLOSING] if add_special else tokens


class Nameless(FakeEngine):
    """Makes numbers that are none."""

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[math.nan, 1.0] for _ in inputs]


async def embedded(
    engine: FakeEngine, *inputs: str | list[int], num_ctx: int = 8, truncate: bool = True, **wanted: int | bool
) -> Embedded:
    asked = Inputs(inputs, **wanted)  # type: ignore[arg-type]
    return await embed(asked, model("m", "embedding", embedding_length=4), engine, num_ctx, truncate=truncate)


@pytest.mark.req("EMB-02")
async def test_each_input_has_a_vector_of_length_1_in_its_place() -> None:
    found = await embedded(Bert(), "ab", "c")
    assert [math.hypot(*vector) for vector in found.embeddings] == pytest.approx([1, 1])
    assert found.prompt_eval_count == 7  # special tokens count
    assert found.warnings == []


@pytest.mark.req("EMB-02")
async def test_without_normalize_a_vector_is_as_the_model_pools_it() -> None:
    assert (await embedded(Bert(), "ab", normalize=False)).embeddings == [[4.0, 98.0, 3.0, 4.0]]


@pytest.mark.req("EMB-02")
async def test_numbers_that_are_none_are_the_engine_s_fault() -> None:
    with pytest.raises(EngineError):
        await embedded(Nameless(), "a")


@pytest.mark.req("EMB-03")
async def test_a_long_input_keeps_its_beginning_and_the_token_that_closes_it() -> None:
    engine = Bert()
    found = await embedded(engine, "a", "abcdefghij")
    assert engine.embedded[1] == [OPENING, *map(ord, "abcdef"), CLOSING]
    assert found.warnings == ["input 1 was cut from 12 to 8 tokens to fit the context"]


@pytest.mark.req("EMB-03")
async def test_an_input_that_may_not_be_cut_is_refused_with_both_lengths() -> None:
    message = "the input length exceeds the context length: input 1 has 12 tokens, the context holds 8"
    with pytest.raises(RequestError, match=message):
        await embedded(Bert(), "a", "abcdefghij", truncate=False)


class Counting(Bert):
    """Counts what it tokenized."""

    num_characters = 0

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.num_characters += len(text)
        return await super().tokenize(text, add_special=add_special)


@pytest.mark.req("EMB-03")
@pytest.mark.parametrize("truncate", [True, False])
async def test_of_inputs_that_are_far_too_long_only_a_beginning_is_tokenized(truncate: bool) -> None:
    engine, long = Counting(), "abcdefghij" * 100_000
    if truncate:
        found = await embedded(engine, long)
        assert engine.embedded == [[OPENING, *map(ord, "abcdef"), CLOSING]]
        assert found.warnings == ["input 0 was cut from at least 4098 to 8 tokens to fit the context"]
    else:
        with pytest.raises(RequestError, match="input 2 has at least 4098 tokens, the context holds 8"):
            await embedded(engine, *["abc"] * 2, long, *["abc"] * 1000, truncate=False)
    assert engine.num_characters < 20_000


@pytest.mark.req("EMB-03")
async def test_a_context_that_holds_special_tokens_only_is_refused() -> None:
    with pytest.raises(RequestError, match="input after truncation exceeds maximum context length"):
        await embedded(Bert(), "abc", num_ctx=2)


@pytest.mark.req("EMB-04")
async def test_the_first_dimensions_are_normalised_again() -> None:
    (vector,) = (await embedded(Bert(), "ab", dimensions=2)).embeddings
    assert len(vector) == 2 and math.hypot(*vector) == pytest.approx(1)


@pytest.mark.req("EMB-04")
@pytest.mark.parametrize("dimensions", [0, 4, None])
async def test_no_dimensions_or_all_of_them_leave_the_vector_whole(dimensions: int) -> None:
    assert len((await embedded(Bert(), "ab", dimensions=dimensions)).embeddings[0]) == 4


@pytest.mark.req("EMB-04")
@pytest.mark.parametrize("dimensions", [-1, 5])
async def test_dimensions_that_the_model_does_not_have_are_refused(dimensions: int) -> None:
    with pytest.raises(RequestError, match="dimensions must be between 1 and 4"):
        await embedded(Bert(), "ab", dimensions=dimensions)


async def test_token_ids_are_embedded_as_they_are() -> None:
    engine = Bert()
    await embedded(engine, [5, 6])
    assert engine.embedded == [[5, 6]]


async def test_token_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(RequestError, match="input 0 holds the token id 99999999"):
        await embedded(Bert(), [99999999])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_the_digits_of_a_vector_are_the_fewest_that_tell_its_float32_apart(numbers: list[float]) -> None:
    (found,) = finished([numbers], len(numbers), normalize=False)
    for number, written in zip(numbers, found, strict=True):
        assert struct.unpack("<f", struct.pack("<f", written)) == (number,)
        assert float(f"{written:.9g}") == written
    assert finished([found], len(found), normalize=False) == [found]
