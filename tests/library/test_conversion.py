"""A GGUF made of a text model's folder: the same numbers, vocabulary and settings as the file that the folder came from."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from serow.errors import ModelFileError, SerowError
from serow.library.conversion.architectures import KINDS, Settings
from serow.library.conversion.gguf_file import Refusal
from serow.library.conversion.sentencepiece import pieces_of
from serow.library.library import Library
from serow.store import text_folder
from serow.store.manifest import WEIGHTS
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from tests.gguf_files import lora
from tests.transformers_folder import folder

NAME = Name.parse("made")
NOT_KEPT = ("general.", "GGUF.", "tokenizer.ggml.fim_")  # names, licences; what is found by the text of tokens


def uploaded(store: Store, path: Path) -> dict[str, str]:
    return {each.name: store.blobs.add(each) for each in path.iterdir()}


async def make(store: Store, path: Path, **recipe: Any) -> list[dict[str, Any]]:
    files = uploaded(store, path)
    return [record async for record in Library(store).create(NAME, Recipe(files=files, **recipe))]


def file_of(store: Store) -> Path:
    (layer,) = store.manifest(NAME).all(WEIGHTS)
    return store.blobs.path(layer.digest)


def facts(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items() if not key.startswith(NOT_KEPT)}


def tensors(path: Path) -> dict[str, tuple[Any, bytes]]:
    return {each.name: (each.tensor_type, each.data.tobytes()) for each in GGUFReader(path).tensors}


@pytest.mark.req("LIB-32")
@pytest.mark.parametrize("num_files", [1, 3])
async def test_a_folder_becomes_the_file_that_it_could_have_come_from(
    store: Store, zoo: Path, tmp_path: Path, num_files: int
) -> None:
    source = zoo / "zoo-think.gguf"
    records = await make(store, folder(source, tmp_path / "folder", dtype="F32", num_files=num_files))
    told = [record for record in records if record["status"] == "converting model"]
    assert told and told[-1]["completed"] == told[-1]["total"]
    assert facts(file_of(store)) == facts(source)
    assert tensors(file_of(store)) == tensors(source)
    model = store.resolve("made")
    assert model.details is not None
    assert (model.details.quantization_level, model.details.parameter_size) == ("F16", "1.08M")
    assert model.fim_tokens == (3, 4, 5) and "tools" in model.capabilities


@pytest.mark.req("LIB-32")
async def test_a_folder_is_converted_and_quantized_in_one_go(store: Store, zoo: Path, tmp_path: Path) -> None:
    path = folder(zoo / "zoo-think.gguf", tmp_path / "folder", dtype="BF16")
    statuses = [record["status"] for record in await make(store, path, quantize="Q8_0", system="Be brief.")]
    assert "converting model" in statuses and "quantizing BF16 model to Q8_0" in statuses
    model = store.resolve("made")
    assert model.system == "Be brief." and model.details is not None and model.details.quantization_level == "Q8_0"
    assert (
        len(list(store.blobs.root.iterdir()))
        == len(list((tmp_path / "folder").iterdir())) + len(store.manifest(NAME).layers) + 1
    )


@pytest.mark.req("LIB-32")
async def test_an_adapter_over_a_folder_has_to_fit_what_becomes_of_it(store: Store, zoo: Path, tmp_path: Path) -> None:
    path = folder(zoo / "zoo-think.gguf", tmp_path / "folder")
    fits, not_fits = (
        lora(zoo / "zoo-think.gguf", tmp_path / "a.gguf"),
        lora(zoo / "zoo-think.gguf", tmp_path / "b.gguf", extra_rows=1),
    )
    await make(store, path, adapters={"a.gguf": store.blobs.add(fits)})
    assert [layer.media_type.rpartition(".")[2] for layer in store.manifest(NAME).layers] == ["model", "adapter"]
    store.delete(NAME)
    with pytest.raises(ModelFileError, match="the adapter does not fit the model"):
        await make(store, path, adapters={"b.gguf": store.blobs.add(not_fits)})
    assert not store.has(NAME) and not list((store.root / "downloads").iterdir())


Spoil = Callable[[Path], None]


def _config(**changes: Any) -> Spoil:
    def spoil(path: Path) -> None:
        found = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**found, **changes}))

    return spoil


def _without(*names: str) -> Spoil:
    def spoil(path: Path) -> None:
        for name in names:
            (path / name).unlink()

    return spoil


def _written(name: str, text: str) -> Spoil:
    def spoil(path: Path) -> None:
        (path / name).write_text(text)

    return spoil


def _head(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "model-00001-of-00001.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    change(head)
    text = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def _tensor(name: str, **changes: Any) -> Spoil:
    return lambda path: _head(path, lambda head: head[name].update(changes))


def _dropped(name: str) -> Spoil:
    return lambda path: _head(path, lambda head: head.pop(name))


def _tokens(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(path: Path) -> None:
        found = json.loads((path / "tokenizer.json").read_text())
        change(found)
        (path / "tokenizer.json").write_text(json.dumps(found))

    return spoil


MANY, SPLITS = "more tokens than the model has rows", "splits texts in a way that is not known"
QUERY = "model.layers.0.self_attn.q_proj.weight"
ROWS: list[tuple[str, Spoil, str]] = [
    ("architecture", _config(architectures=["Gemma3ForConditionalGeneration"]), 'unsupported architecture "Gemma3ForCond'),
    ("no architecture", _config(architectures=None), 'unsupported architecture "unknown"'),
    ("config no object", _written("config.json", "[1]"), 'unsupported architecture "unknown"'),
    ("config no JSON", _written("config.json", "{"), "config.json is broken"),
    ("no tokenizer", _without("tokenizer.json"), "the folder has no tokenizer"),
    ("a stranger", _written("model.py", "import os"), "model.py is not a file of a text model's folder"),
    ("a pickle", _written("pytorch_model.bin", "x"), "pytorch_model.bin is not a file of a text model's folder"),
    ("heads", _config(num_attention_heads=0), '"num_attention_heads" is not a whole number above zero'),
    ("heads as text", _config(num_attention_heads="4"), '"num_attention_heads" is not a whole number above zero'),
    ("many layers", _config(num_hidden_layers=5), "tensors are missing, the first is blk.4.attn_k.weight"),
    ("far too many layers", _config(num_hidden_layers=1 << 30), "more layers than any model has"),
    ("few layers", _config(num_hidden_layers=1), "has tensors of more layers than config.json says"),
    ("rotation", _config(rope_scaling={"rope_type": "longrope"}), 'a rotation of the kind "longrope" is not converted'),
    ("quantized", _config(quantization_config={"bits": 4}), "the weights are quantized already"),
    ("window", _config(use_sliding_window=True), "with a sliding window is not converted"),
    ("missing tensor", _dropped(QUERY), "1 tensors are missing, the first is blk.0.attn_q.weight"),
    ("outside", _tensor(QUERY, data_offsets=[0, 1 << 40]), "a tensor lies outside of it"),
    ("shape", _tensor(QUERY, shape=[1 << 40, 1 << 40]), "a tensor is larger than its place"),
    ("dtype", _tensor(QUERY, dtype="F8_E4M3"), "only F32, F16 and BF16 are converted"),
    ("sides", _tensor(QUERY, shape=[2] * 15), "more dimensions than"),
    ("tokenizer no JSON", _written("tokenizer.json", "nonsense"), "tokenizer.json is no JSON"),
    ("tokenizer no BPE", _tokens(lambda found: found["model"].update(type="Unigram")), "a tokenizer.json with BPE is needed"),
    (
        "tokenizer too large",
        _tokens(lambda found: found["model"]["vocab"].update(x=768)),
        MANY,
    ),
    ("token number", _tokens(lambda found: found["model"]["vocab"].update(x="1")), MANY),
    ("added", _tokens(lambda found: found.update(added_tokens=[1])), "an added token is not what the format says"),
    ("merges", _tokens(lambda found: found["model"].update(merges=[[1, 2]])), "a merge is not what the format says"),
    (
        "splits",
        _tokens(lambda found: found.update(pre_tokenizer={"type": "Whitespace"})),
        SPLITS,
    ),
    ("pieces", _written("tokenizer.model", "\x0a\x7fxx"), "tokenizer.model is not what SentencePiece writes"),
]


@pytest.mark.req("LIB-32")
@pytest.mark.parametrize(("spoil", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_a_folder_that_nothing_can_be_made_of_is_refused_in_words_and_leaves_nothing(
    store: Store, zoo: Path, tmp_path: Path, spoil: Spoil, words: str
) -> None:
    path = folder(zoo / "zoo-think.gguf", tmp_path / "folder")
    spoil(path)
    with pytest.raises(SerowError) as caught:
        await make(store, path)
    assert words in str(caught.value)
    assert store.list() == [] and not [*(store.root / "downloads").glob("*")]


@pytest.mark.req("LIB-32")
def test_what_is_refused_before_and_what_is_converted_are_the_same_classes() -> None:
    assert set(text_folder.CONVERTED) == KINDS.keys()


BASE: Mapping[str, Any] = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_attention_heads": 32}


@pytest.mark.req("LIB-32")
def test_the_frequencies_of_llama_3_are_stretched_as_it_was_trained() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    settings = Settings({**BASE, "rope_theta": 500_000.0, "rope_scaling": {**rope, "original_max_position_embeddings": 8192}})
    found = settings.frequency_factors()
    assert (len(found), found[0], found[-1]) == (64, 1.0, 8.0)
    assert found == sorted(found) and 1.0 < found[32] < 8.0
    assert Settings(BASE).frequency_factors() == []


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a\x05", b"\x0b"])
def test_what_is_no_model_of_sentencepiece_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        list(pieces_of(data))
