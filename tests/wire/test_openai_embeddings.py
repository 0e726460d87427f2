"""OpenAI's embeddings and lists of models on the wire."""

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from serow.errors import RequestError
from serow.inference.ask import Inputs
from serow.inference.events import Done, Usage, Vectors
from serow.wire.model_list import Listed, anthropic_list, openai_list
from serow.wire.openai_embeddings import EmbeddingRequest, decode, whole
from tests.wire.streams import folded

VECTORS = folded([Vectors([[0.6, 0.8], [1.0, 0.0]]), Done(reason="stop", usage=Usage(prompt_eval_count=5))])


def decoded(**fields: Any) -> EmbeddingRequest:
    return decode(json.dumps({"model": "m", "input": "x", **fields}).encode())


@pytest.mark.req("OAI-18")
@pytest.mark.parametrize(
    ("given", "inputs"),
    [("x", ["x"]), ("", [""]), (["a", ""], ["a", ""]), ([7592, 2088], [[7592, 2088]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_texts_and_token_ids_are_inputs(given: Any, inputs: list[Any]) -> None:
    request = decoded(input=given, user="u")
    assert (request.ask.prompt, request.ask.truncate, request.ask.warnings) == (Inputs(inputs), False, ())


@pytest.mark.req("OAI-18", "OAI-19")
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": None}, "input", "invalid input"),
        ({"input": []}, "input", "invalid input"),
        ({"input": {}}, "input", "array"),
        ({"input": ["a", None]}, "input[1]", "string"),
        ({"encoding_format": "hex"}, "encoding_format", "Invalid value for 'encoding_format' = hex"),
        ({"dimensions": -1}, "dimensions", "at least 0"),
        ({"dimensions": 1.5}, "dimensions", "integer"),
    ],
)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        decoded(**fields)
    assert raised.value.param == param


@pytest.mark.req("OAI-19")
def test_vectors_come_in_order_as_numbers_or_as_base64_of_float32() -> None:
    answer = whole(decoded(dimensions=2), [VECTORS])
    assert answer["data"] == [
        {"object": "embedding", "embedding": [0.6, 0.8], "index": 0},
        {"object": "embedding", "embedding": [1.0, 0.0], "index": 1},
    ]
    assert (answer["object"], answer["usage"]) == ("list", {"prompt_tokens": 5, "total_tokens": 5})
    packed = whole(decoded(encoding_format="BASE64"), [VECTORS])["data"][1]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (1.0, 0.0)


MODELS = [
    Listed(name, "library", datetime(2026, 11, 28, 5, tzinfo=UTC), 2048, ("completion",)) for name in ("c:latest", "b:x", "a:1")
]


@pytest.mark.req("OAI-17")
def test_models_have_all_that_clients_read() -> None:
    assert openai_list([]) == {"object": "list", "data": []}
    assert openai_list(MODELS)["data"][0] == {
        "id": "c:latest",
        "object": "model",
        "created": 1795842000,
        "owned_by": "library",
        "context_length": 2048,
        "capabilities": ["completion"],
    }


@pytest.mark.req("ANT-10")
@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({}, ["c:latest", "b:x", "a:1"], False),
        ({"limit": "2"}, ["c:latest", "b:x"], True),
        ({"limit": "2", "after_id": "c:latest"}, ["b:x", "a:1"], False),
        ({"limit": "1", "before_id": "a:1"}, ["b:x"], True),
        ({"before_id": "c:latest"}, [], False),
    ],
)
def test_models_come_in_pages_for_anthropic(query: dict[str, str], ids: list[str], has_more: bool) -> None:
    page = anthropic_list(MODELS, **query)
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (ids, has_more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.req("ANT-10")
def test_a_model_of_anthropics_list_says_how_much_it_reads() -> None:
    assert anthropic_list(MODELS)["data"][0] == {
        "type": "model",
        "id": "c:latest",
        "display_name": "c:latest",
        "created_at": "2026-11-28T05:00:00Z",
        "max_input_tokens": 2048,
        "lifecycle": "active",
    }
    for limit in ("0", "1001", "x", "-1"):
        with pytest.raises(RequestError, match="limit must be between 1 and 1000"):
            anthropic_list(MODELS, limit)
