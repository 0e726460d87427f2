import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from serow.errors import InvalidModelName, ModelFileError, ModelNotFound, StoreError
from serow.store import manifest as media
from serow.store.name import Name
from serow.store.store import Store
from tests.store.conftest import Make

NAME = Name.parse("zoo-think")


def names(store: Store) -> list[str]:
    return sorted(model.name.display_shortest for model in store.list())


def manifest_path(store: Store, name: str) -> Path:
    return store.root / "manifests" / Name.parse(name).path


def num_blobs(store: Store) -> int:
    return len(list((store.root / "blobs").iterdir()))


def test_a_made_model_is_resolved(store: Store, make: Make, think: str) -> None:
    make("zoo-think", system="Be brief.", parameters={"temperature": 0, "stop": ["a", "b"]}, license=("MIT",))
    model = store.resolve("zoo-think")
    assert (str(model.name), model.system, model.license) == (
        "registry.ollama.ai/library/zoo-think:latest",
        "Be brief.",
        ("MIT",),
    )
    assert model.parameters == {"temperature": 0.0, "stop": ("a", "b")}
    assert model.weights == store.blobs.path(think)
    assert (model.architecture, model.context_length, model.vocab_size, model.fim_tokens) == ("qwen3", 2048, 768, (3, 4, 5))
    assert model.capabilities == ("tools", "thinking", "completion")


@pytest.mark.req("GEN-02")
@pytest.mark.parametrize(
    "text", ["zoo-think", "ZOO-Think:LATEST", "library/zoo-think", "registry.ollama.ai/library/zoo-think ", " zoo-think"]
)
def test_a_model_is_found_under_every_spelling_of_its_name(store: Store, make: Make, text: str) -> None:
    make("Zoo-think")
    assert store.resolve(text).name == NAME


@pytest.mark.req("GEN-02")
@pytest.mark.parametrize("text", ["", "nope", "zoo-think:other", "me/zoo-think", "zoo-think/latest/x"])
def test_a_model_that_is_not_here_is_named_as_asked(store: Store, make: Make, text: str) -> None:
    make("zoo-think")
    with pytest.raises(ModelNotFound, match=f"^model '{text}' not found$"):
        store.resolve(text)


@pytest.mark.req("GEN-02")
def test_a_malformed_name_is_not_looked_for(store: Store) -> None:
    with pytest.raises(InvalidModelName):
        store.resolve("../x")


def test_an_unchanged_model_is_resolved_in_microseconds(store: Store, make: Make) -> None:
    make("zoo-think")
    first = store.resolve("zoo-think")
    start = time.perf_counter()
    assert all(store.resolve("zoo-think") is first for _ in range(200))
    assert (time.perf_counter() - start) / 200 < 500e-6  # usually 3; a busy machine may be slow


def test_a_changed_model_is_seen_at_once(store: Store, make: Make) -> None:
    make("zoo-think")
    before = store.resolve("zoo-think")
    make("zoo-think", system="New.")
    assert store.resolve("zoo-think").system == "New."
    assert store.resolve("zoo-think").digest != before.digest
    store.delete(NAME)
    with pytest.raises(ModelNotFound):
        store.resolve("zoo-think")


def test_the_digest_is_that_of_the_manifest(store: Store, make: Make) -> None:
    make("zoo-think")
    data = manifest_path(store, "zoo-think").read_bytes()
    assert store.resolve("zoo-think").digest == hashlib.sha256(data).hexdigest()


def test_a_copy_shares_its_blobs_and_outlives_the_original(store: Store, make: Make) -> None:
    make("zoo-think")
    store.copy(NAME, Name.parse("copied:v1"))
    store.copy(NAME, NAME)
    assert names(store) == ["copied:v1", "zoo-think:latest"]
    assert store.resolve("copied:v1").digest == store.resolve("zoo-think").digest
    store.delete(NAME)
    assert store.resolve("copied:v1").weights.is_file()
    with pytest.raises(ModelNotFound):
        store.copy(NAME, Name.parse("x"))


def test_deleting_the_last_name_removes_its_blobs_and_folders(store: Store, make: Make) -> None:
    make("zoo-think", system="Only here.")
    make("other", system="Elsewhere.")
    store.delete(NAME)
    assert store.resolve("other").weights.is_file()
    store.delete(Name.parse("OTHER"))
    assert num_blobs(store) == 0
    assert not any((store.root / "manifests").iterdir())
    with pytest.raises(ModelNotFound):
        store.delete(NAME)


def test_replacing_a_model_removes_what_only_the_old_one_needed(store: Store, make: Make) -> None:
    make("zoo-think", system="Old.")
    old = num_blobs(store)
    make("zoo-think", system="New.")
    assert num_blobs(store) == old


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b'{"config": 1, "layers": []}', b"\xff\xfe", b"[" * 5000])
def test_a_broken_manifest_fails_alone(store: Store, make: Make, data: bytes) -> None:
    make("zoo-think")
    make("broken")
    manifest_path(store, "broken").write_bytes(data)
    assert names(store) == ["zoo-think:latest"]
    with pytest.raises(ModelFileError, match="manifest is broken") as caught:
        store.resolve("broken")
    assert "serow rm removes it" in caught.value.hint
    store.delete(Name.parse("broken"))
    assert store.resolve("zoo-think").weights.is_file()


def test_blobs_that_a_broken_manifest_names_are_kept(store: Store, make: Make, think: str) -> None:
    make("zoo-think")
    make("other")
    path = manifest_path(store, "other")
    path.write_bytes(path.read_bytes()[:-2])
    store.delete(NAME)
    assert store.blobs.has(think)


def test_missing_weights_are_told_when_the_model_is_used(store: Store, make: Make, think: str) -> None:
    make("zoo-think")
    store.blobs.remove(think)
    assert names(store) == []
    with pytest.raises(StoreError, match=r"^the model store failed: no such file or directory$"):
        store.resolve("zoo-think")


def test_what_is_no_manifest_is_passed_over(store: Store, make: Make) -> None:
    make("zoo-think")
    folder = manifest_path(store, "zoo-think").parent
    for name in (".latest-partial", "bad name"):
        (folder / name).write_bytes(b"{}")
    (folder / "folder").mkdir()
    assert names(store) == ["zoo-think:latest"]
    with pytest.raises(ModelNotFound):
        store.resolve("zoo-think:folder")


def test_the_newest_model_is_listed_first(store: Store, make: Make) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        make(name)
        os.utime(manifest_path(store, name), (1_000_000 - age, 1_000_000 - age))
    assert [model.name.model for model in store.list()] == ["new", "middle", "old"]


def test_a_manifest_is_taken_over_only_with_all_its_blobs(store: Store, make: Make, think: str) -> None:
    make("zoo-think")
    data = manifest_path(store, "zoo-think").read_bytes()
    store.put_manifest(Name.parse("pulled"), data)
    assert store.resolve("pulled").digest == hashlib.sha256(data).hexdigest()
    for broken in (data.replace(think.encode(), b"sha256:" + b"0" * 64), data.replace(b'"size":2196288', b'"size":5')):
        with pytest.raises(ModelFileError, match="missing or has another size"):
            store.put_manifest(Name.parse("other"), broken)


async def test_one_file_makes_a_model(store: Store, think: str) -> None:
    await store.create_from_blob("me/zoo:v1", think)
    assert names(store) == ["me/zoo:v1"]


def test_partial_files_are_swept_from_the_whole_store(store: Store, make: Make) -> None:
    make("zoo-think")
    for folder in (store.root / "blobs", manifest_path(store, "zoo-think").parent):
        (folder / ".serow-0123abc_-partial").touch()
        os.utime(folder / ".serow-0123abc_-partial", (1000, 1000))
    assert store.sweep() == 2
    assert names(store) == ["zoo-think:latest"]


def put_layer(root: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (root / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def test_a_store_that_the_peer_made_is_read_as_it_is(tmp_path: Path, zoo: Path) -> None:
    (tmp_path / "blobs").mkdir()
    config = {
        "model_format": "gguf",
        "model_family": "qwen3",
        "model_families": ["qwen3"],
        "model_type": "1.1M",
        "file_type": "F16",
        "renderer": "",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:x"]},
    }
    layers = [
        put_layer(tmp_path, media.WEIGHTS, (zoo / "zoo-think.gguf").read_bytes()) | {"from": "base:latest"},
        put_layer(tmp_path, "application/vnd.ollama.image.embed", b"old and unused"),
        put_layer(tmp_path, media.TEMPLATE, b"{{ .Prompt }}{{ if .Suffix }}{{ end }}"),
        put_layer(tmp_path, media.SYSTEM, b"You are kind."),
        put_layer(tmp_path, media.PARAMS, b'{"stop":["\\u003c|im_end|\\u003e"],"num_ctx":4096.0,"penalize_newline":true}\n'),
        put_layer(
            tmp_path, media.MESSAGES, b'[{"role":"user","content":"Hi","images":null},{"role":"assistant","content":"Hello"}]\n'
        ),
        put_layer(tmp_path, media.LICENSE, b"MIT"),
        put_layer(tmp_path, media.LICENSE, b"Apache-2.0"),
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": put_layer(tmp_path, media.CONFIG, json.dumps(config).encode()),
        "layers": layers,
    }
    path = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "kind" / "1b"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))

    (model,) = Store(tmp_path).list()
    assert model.name.display_shortest == "kind:1b"
    assert model.size == sum(each["size"] for each in layers) + manifest["config"]["size"]  # type: ignore[index]
    assert (model.system, model.license) == ("You are kind.", ("MIT", "Apache-2.0"))
    assert model.template.startswith("{{ .Prompt }}")
    assert model.parameters == {"stop": ("<|im_end|>",), "num_ctx": 4096}
    assert model.messages == ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    assert model.capabilities == ("tools", "thinking", "completion", "insert")
    assert model.parent_model == "base:latest"
    assert model.details is not None and model.details.parameter_size == "1.1M"
