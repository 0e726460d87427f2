"""Models in several files: made, found in any order, merged, and refused when a part is missing or not one."""

import hashlib
import json
import random
from pathlib import Path

import msgspec
import pytest

from serow.errors import ModelFileError, RequestError
from serow.library.library import Library
from serow.store import gguf
from serow.store import manifest as media
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from tests.gguf_files import split

NAME = Name.parse("made")
COUNT = 3


@pytest.fixture
def files(store: Store, zoo: Path, tmp_path: Path) -> dict[str, str]:
    """The parts of zoo-think, uploaded, by name."""
    return {path.name: store.blobs.add(path) for path in split(zoo / "zoo-think.gguf", tmp_path, COUNT)}


async def make(store: Store, recipe: Recipe) -> list[str]:
    return [record["status"] async for record in Library(store).create(NAME, recipe)]


@pytest.mark.req("LIB-29")
async def test_parts_stay_as_they_are_in_order_under_the_names_that_the_engine_looks_for(
    store: Store, files: dict[str, str], zoo: Path
) -> None:
    statuses = await make(store, Recipe(files=files))
    assert statuses.count("parsing GGUF") == COUNT
    assert [layer.digest for layer in store.manifest(NAME).layers] == [*files.values()]
    model = store.resolve("made")
    folder, name = model.weights.parent, model.weights.name
    assert name == "model-00001-of-00003.gguf"
    for number, digest in enumerate(files.values(), 1):
        path = folder / f"model-{number:05}-of-{COUNT:05}.gguf"
        assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == digest
    assert model.details is not None and model.details.parameter_size == "1.08M"


@pytest.mark.req("LIB-25", "LIB-29")
async def test_a_manifest_that_names_no_layers_and_lists_them_in_any_order_is_the_same_model(
    store: Store, files: dict[str, str]
) -> None:
    await make(store, Recipe(files=files))
    named = store.resolve("made")
    found = json.loads(store.manifest_data(NAME))
    for layer in found["layers"]:
        del layer["name"]
    for seed in range(6):
        random.Random(seed).shuffle(found["layers"])
        store.put_manifest(Name.parse("mixed"), msgspec.json.encode(found))
        model = store.resolve("mixed")
        assert model.weights.read_bytes() == named.weights.read_bytes()
        assert model.details == named.details
        folder = model.weights.parent
        store.delete(Name.parse("mixed"))
        assert not folder.exists()


@pytest.mark.req("LIB-29", "LIB-32")
@pytest.mark.parametrize("quantize", ["", "Q8_0"])
async def test_parts_are_merged_into_one_file_when_that_is_asked_for(
    store: Store, files: dict[str, str], zoo: Path, quantize: str
) -> None:
    statuses = await make(store, Recipe(files=files, merge=True, quantize=quantize))
    assert "merging 3 parts" in statuses and ("quantizing F16 model to Q8_0" in statuses) is bool(quantize)
    (layer,) = store.manifest(NAME).all(media.WEIGHTS)
    whole = gguf.read(zoo / "zoo-think.gguf")
    merged = gguf.read(store.blobs.path(layer.digest))
    assert [tensor.name for tensor in merged.tensors] == [tensor.name for tensor in whole.tensors]
    assert not any(key.startswith("split.") for key in merged.metadata)
    if not quantize:
        assert {**merged.metadata}.keys() == {**whole.metadata}.keys()
    assert store.resolve("made").weights.is_file()
    assert not list((store.root / "downloads").iterdir())


@pytest.mark.req("LIB-29")
async def test_a_merged_file_is_the_whole_one_byte_for_byte_in_its_tensors(
    store: Store, files: dict[str, str], zoo: Path
) -> None:
    await make(store, Recipe(files=files, merge=True))
    (layer,) = store.manifest(NAME).all(media.WEIGHTS)
    paths = zoo / "zoo-think.gguf", store.blobs.path(layer.digest)
    one, other = map(_tensor_bytes, paths)
    assert one == other


def _tensor_bytes(path: Path) -> dict[str, str]:
    from gguf import GGUFReader

    return {tensor.name: hashlib.sha256(tensor.data.tobytes()).hexdigest() for tensor in GGUFReader(path).tensors}


@pytest.mark.req("LIB-29")
async def test_a_set_that_is_not_whole_or_not_one_is_refused_in_words(store: Store, files: dict[str, str]) -> None:
    names, digests = [*files], [*files.values()]
    rows = [
        (
            {names[0]: digests[0], names[2]: digests[2]},
            '^split GGUF "zoo-think-00001-of-00003.gguf" has 2 shards, expected 3$',
        ),
        ({**files, "other-00001-of-00003.gguf": digests[0]}, "^the files belong to more than one split model$"),
        (dict(zip(names, digests[::-1], strict=True)), r'"zoo-think-00001-of-00003.gguf" is not part 1 of 3 of a split model$'),
        ({"a-00001-of-00002.gguf": digests[0], "a-00002-of-00002.gguf": digests[1]}, "is not part 1 of 2 of a split model$"),
        ({"a.gguf": digests[0]}, "^the file is one part of a split model: all its parts are needed$"),
    ]
    for given, words in rows:
        with pytest.raises(ModelFileError, match=words):
            await make(store, Recipe(files=given))
        assert not store.has(NAME)


@pytest.mark.req("LIB-32")
async def test_parts_are_quantized_only_when_they_are_merged(store: Store, files: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="only a model of one GGUF file can be quantized") as caught:
        await make(store, Recipe(files=files, quantize="Q8_0"))
    assert "--merge" in (caught.value.hint or "")
