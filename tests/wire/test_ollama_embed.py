"""Bodies of Ollama's two embedding routes become an Ask, events become their answers."""

import json
from typing import Any

import pytest

from serow.errors import RequestError
from serow.inference.ask import Inputs, Nothing
from serow.inference.events import Done, Usage, Vectors
from serow.wire.json import encode
from serow.wire.ollama_embed import EmbeddingsWhole, EmbedWhole, decode_embed, decode_embeddings

VECTORS = Vectors([[0.6, 0.8], [1.0, 0.0]])
DONE = Done(reason="stop", usage=Usage(prompt_eval_count=7), total_duration=5, load_duration=3, warnings=["cut"])


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


@pytest.mark.req("EMB-01")
@pytest.mark.parametrize(("given", "inputs"), [("a", ["a"]), (["a", ""], ["a", ""]), ([""], [""]), (" ", [" "])])
def test_a_text_or_a_list_of_texts_is_the_input(given: Any, inputs: list[str]) -> None:
    assert decode_embed(body(input=given)).prompt == Inputs(inputs)


@pytest.mark.req("EMB-01")
@pytest.mark.parametrize("fields", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_no_input_is_a_load(fields: dict[str, Any]) -> None:
    assert decode_embed(body(**fields)).prompt == Nothing("embed")


@pytest.mark.req("EMB-01")
@pytest.mark.parametrize("given", [5, True, {}, {"a": 1}, ["a", 5], [["a"]], [1, 2], [None]])
def test_other_input_is_refused_whatever_the_model(given: Any) -> None:
    with pytest.raises(RequestError, match="invalid input type"):
        decode_embed(body(input=given, model="none"))


@pytest.mark.req("EMB-01")
def test_fields_that_the_route_does_not_know_are_named() -> None:
    ask = decode_embed(body(prompt="a", options={"nonsense": 1}))
    assert ask.prompt == Nothing("embed")
    assert ask.warnings == ('unknown field "prompt" was ignored', 'unknown option "nonsense" was ignored')


@pytest.mark.req("EMB-04")
@pytest.mark.parametrize(
    ("field", "value"), [("dimensions", 10.5), ("dimensions", "8"), ("truncate", "yes"), ("options", []), ("normalize", 1)]
)
def test_a_field_of_a_wrong_type_is_named(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f'"{field}" must be'):
        decode_embed(body(**{"input": "a", field: value}))


@pytest.mark.req("EMB-02")
def test_the_answer_holds_vectors_counts_and_durations() -> None:
    whole = EmbedWhole("M")
    whole.add(VECTORS)
    whole.add(DONE)
    assert json.loads(encode(whole.value())) == {
        "model": "M",
        "embeddings": [[0.6, 0.8], [1.0, 0.0]],
        "total_duration": 5,
        "load_duration": 3,
        "prompt_eval_count": 7,
        "warnings": ["cut"],
    }


@pytest.mark.req("EMB-01")
def test_the_answer_to_a_load_has_no_counts() -> None:
    whole = EmbedWhole("m")
    whole.add(Done(reason="load", total_duration=5))
    assert json.loads(encode(whole.value())) == {"model": "m", "embeddings": []}


@pytest.mark.req("EMB-06")
def test_the_old_route_has_one_prompt_and_one_vector_as_the_engine_gives_it() -> None:
    ask = decode_embeddings(body(prompt="a"))
    assert ask.prompt == Inputs(["a"], normalize=None)
    assert not ask.truncate
    whole = EmbeddingsWhole()
    whole.add(VECTORS)
    whole.add(Done(reason="stop"))
    assert json.loads(encode(whole.value())) == {"embedding": [0.6, 0.8]}


@pytest.mark.req("EMB-06")
def test_the_old_route_loads_without_a_prompt() -> None:
    assert decode_embeddings(body(prompt="")).prompt == Nothing("embed")
    whole = EmbeddingsWhole()
    whole.add(Done(reason="load"))
    assert json.loads(encode(whole.value())) == {"embedding": []}


@pytest.mark.req("EMB-06")
@pytest.mark.parametrize(
    ("fields", "words"), [({"prompt": ["a"]}, '"prompt" must be a string'), ({"model": ""}, "model is required")]
)
def test_the_old_route_refuses_lists_and_a_missing_model(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        decode_embeddings(body(**{"prompt": "a", **fields}))


@pytest.mark.req("EMB-06")
def test_the_old_route_ignores_fields_of_the_new_one_and_says_so() -> None:
    assert decode_embeddings(body(input="a", dimensions=8)).warnings == (
        'unknown field "input" was ignored',
        'unknown field "dimensions" was ignored',
    )
