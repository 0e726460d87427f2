"""A smaller model that guesses ahead: what a recipe says of it, and what the new model has."""

import json
from pathlib import Path
from typing import Any

import pytest

from serow.errors import ModelFileError, ModelNotFound, RequestError, SerowError
from serow.library.library import Library
from serow.store import manifest as media
from serow.store.manifest import decode_config
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.show import show
from serow.store.store import Store

from .conftest import Make
from .files import MODEL, gguf_file

NAME = Name.parse("made")
NOTHING = "sha256:" + "0" * 64


@pytest.fixture
def small(store: Store) -> str:
    """The digest of the smaller model's file."""
    return store.blobs.put(gguf_file([*MODEL.items(), ("general.name", "small")]))[0]


def drafts(store: Store) -> list[str]:
    return [layer.digest for layer in store.manifest(NAME).all(media.DRAFT)]


@pytest.mark.req("LIB-29", "LIB-38")
def test_a_file_that_guesses_ahead_is_a_layer_of_its_own_and_shown(store: Store, make: Make, small: str) -> None:
    make("made", draft_files={"small.gguf": small})
    model, config = store.resolve("made"), store.manifest(NAME).config
    assert model.draft
    assert drafts(store) == [small] and model.draft.path == store.blobs.path(small)
    assert decode_config(store.blobs.read(config.digest, 1000)).draft == {"model_format": "gguf", "architecture": "toy"}
    shown = show(model, "", verbose=False, system="", options={})
    assert f"\nDRAFT {model.draft.path}\n" in shown.modelfile


@pytest.mark.req("LIB-30")
def test_a_model_that_is_here_can_guess_ahead_and_comes_along_with_a_copy(store: Store, make: Make, small: str) -> None:
    make("small", files={"small.gguf": small})
    make("first", draft=Name.parse("small"))
    make("made", source=Name.parse("first"))
    assert drafts(store) == [small]
    store.delete(Name.parse("small"))
    guesser = store.resolve("made").draft
    assert guesser and guesser.path == store.blobs.path(small) and store.blobs.has(small)


@pytest.mark.req("LIB-30")
def test_another_draft_takes_the_place_of_the_sources_and_null_leaves_it_out(store: Store, make: Make, small: str) -> None:
    other, _ = store.blobs.put(gguf_file([*MODEL.items(), ("general.name", "other")]))
    make("base", draft_files={"small.gguf": small})
    make("made", source=Name.parse("base"), draft_files={"other.gguf": other})
    assert drafts(store) == [other]
    make("made", source=Name.parse("base"), dropped=frozenset({"draft"}))
    assert drafts(store) == [] and store.resolve("made").draft is None
    assert decode_config(store.blobs.read(store.manifest(NAME).config.digest, 1000)).draft is None


@pytest.mark.req("LIB-28", "LIB-29")
@pytest.mark.parametrize(
    ("recipe", "error", "words"),
    [
        ({"draft_files": {"a.gguf": NOTHING}}, ModelFileError, f"a.gguf: no file of the digest {NOTHING} is here"),
        ({"draft_files": {"a.gguf": NOTHING, "b.gguf": NOTHING}}, RequestError, "only one draft is supported"),
        ({"draft_files": {"a.gguf": NOTHING}, "draft": Name.parse("mute")}, RequestError, "only one draft is supported"),
        ({"draft": NAME}, ModelNotFound, "model 'made:latest' not found"),
        ({"draft": Name.parse("mute")}, ModelFileError, "mute:latest can't guess ahead"),
        ({"draft_quantize": "Q8_0"}, RequestError, "^--draft-quantize requires a DRAFT model$"),
    ],
)
def test_a_draft_that_can_not_be_is_refused(
    store: Store, make: Make, recipe: dict[str, Any], error: type[SerowError], words: str
) -> None:
    make("mute", files={f"m-0000{n}-of-00002.gguf": store.blobs.put(_part(n))[0] for n in (1, 2)})
    with pytest.raises(error, match=words):
        make("made", **recipe)
    assert not store.has(NAME)


def _part(number: int) -> bytes:
    facts = MODEL if number == 1 else {"general.architecture": "toy"}
    return gguf_file([*facts.items(), ("split.no", number - 1), ("split.count", 2)])


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize("name", ["zoo-vision-mmproj.gguf", "README.md"])
def test_what_is_no_language_model_guesses_nothing(store: Store, make: Make, zoo: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="a draft must be a language model"):
        make("made", draft_files={"a.gguf": store.blobs.add(zoo / name)})


@pytest.mark.req("LIB-32")
async def test_a_draft_is_quantized_by_itself(store: Store, make: Make, think: str) -> None:
    make("zoo-think")
    recipe = Recipe(source=Name.parse("zoo-think"), draft_files={"small.gguf": think}, draft_quantize="q8_0")
    records = [record async for record in Library(store).create(NAME, recipe)]
    told = [record for record in records if record["status"] == "quantizing F16 draft to Q8_0"]
    assert told and told[-1]["completed"] == told[-1]["total"] and told[-1]["digest"] == think
    model, (draft,) = store.resolve("made"), drafts(store)
    assert draft != think and model.draft and model.draft.path == store.blobs.path(draft)
    assert store.manifest(NAME).last(media.WEIGHTS).digest == think  # type: ignore[union-attr]
    assert model.details is not None and model.details.quantization_level == "F16"


def with_words(*tokens: str, **facts: object) -> bytes:
    """A model file with these tokens."""
    return gguf_file(
        [*MODEL.items(), ("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.tokens", list(tokens)), *facts.items()]
    )


WORDS = tuple(f"word {number}" for number in range(200))


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (with_words(*WORDS), ""),
        (with_words(*WORDS, "one more"), ""),
        (with_words("other", "first", *WORDS[2:]), ""),  # what stands first is not compared
        (with_words(*WORDS[:60]), "it knows 60 tokens, the model 200"),
        (with_words(*WORDS[:100], "other", *WORDS[101:]), "it has other tokens than the model"),
        (
            gguf_file([*MODEL.items(), ("tokenizer.ggml.model", "llama"), ("tokenizer.ggml.tokens", list(WORDS))]),
            "its model is",
        ),
        (gguf_file(MODEL.items()), "its file has no vocabulary"),
    ],
)
def test_a_draft_with_other_tokens_is_refused_in_words_and_one_that_came_with_a_pull_leaves_the_model_as_it_is(
    store: Store, make: Make, draft: bytes, words: str
) -> None:
    weights, small = (store.blobs.put(data)[0] for data in (with_words(*WORDS), draft))
    recipe = {"files": {"m.gguf": weights}, "draft_files": {"s.gguf": small}}
    if words and "no vocabulary" not in words:
        with pytest.raises(ModelFileError, match=f"the draft can't guess for the model: {words}"):
            make("made", **recipe)
    make("made", files={"m.gguf": weights}, draft_files={"s.gguf": weights})
    pulled = json.loads(store.manifest_data(NAME))
    layer = next(layer for layer in pulled["layers"] if layer["mediaType"] == media.DRAFT)
    layer |= {"digest": small, "size": len(draft)}
    store.put_manifest(NAME, json.dumps(pulled).encode())
    model = store.resolve("made")
    assert model.draft and model.draft.refusal.startswith(words) and bool(model.draft.refusal) == bool(words)
    assert model.can_be_guessed_for is not bool(words)


@pytest.mark.req("LIB-29")
def test_a_draft_without_a_vocabulary_is_kept_and_said_to_guess_nothing(store: Store, small: str) -> None:
    weights, _ = store.blobs.put(with_words(*WORDS))
    draft = store.draft(Recipe(files={"m.gguf": weights}, draft_files={"small.gguf": small}))
    assert draft.warnings == ["draft: its file has no vocabulary: engines here guess with whole language models only"]
