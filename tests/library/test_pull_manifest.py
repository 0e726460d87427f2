"""The manifest that a registry sends: what can't be right is refused, the rest is kept as it is."""

import json
from typing import Any

import pytest

from serow.errors import ModelFileError, RegistryError
from serow.library import pull
from serow.library.pull import Pulls
from serow.store.manifest import MANIFEST, WEIGHTS
from serow.store.name import Name
from serow.store.store import Store
from tests.store.files import gguf_file

from .conftest import Registry, asked, digest_of, names, pulled


@pytest.mark.req("LIB-39")
@pytest.mark.parametrize(
    ("architecture", "tensors", "is_refused"),
    [
        ("gptoss", ["weight"], True),
        ("llama4", ["blk.0.ffn_up.weight", "v.blk.0.attn_q.weight"], True),
        ("llama4", ["blk.0.ffn_up.weight"], False),
    ],
)
async def test_a_layout_that_only_ollama_reads_is_refused_before_it_is_fetched(
    registry: Registry,
    pulls: Pulls,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    tensors: list[str],
    is_refused: bool,
) -> None:
    monkeypatch.setattr(pull, "_LARGE", 1 << 20)
    monkeypatch.setattr(pull, "_HEADS", (100, 1 << 10))
    heads = [(name, (32, 2), 0, 0) for name in tensors]
    data = gguf_file(
        [("general.architecture", architecture), ("tokenizer.ggml.tokens", ["x"] * 20)], heads, data=bytes(2 << 20)
    )
    registry.model("zoo/tiny", data, model_family=architecture)
    if is_refused:
        with pytest.raises(ModelFileError, match="a layout that only Ollama reads: hf"):
            await pulled(pulls, asked(registry))
        assert registry.sent < 5000 and names(store.blobs.root) == [] and store.list() == []
    else:
        await pulled(pulls, asked(registry))


def manifest(**changes: Any) -> bytes:
    layer = {"mediaType": WEIGHTS, "digest": digest_of(b"x"), "size": 1}
    whole = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**layer, "digest": digest_of(b"c")}, "layers": [layer]}
    return json.dumps({**whole, **changes}).encode()


def layers(**changes: Any) -> bytes:
    return manifest(layers=[{"mediaType": WEIGHTS, "digest": digest_of(b"x"), "size": 1, **changes}])


@pytest.mark.req("LIB-05", "LIB-06")
@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"x" * (5 << 20), {}, "larger than"),
        (b"{", {}, "no JSON"),
        (b"[]", {}, "no object"),
        (b"<html>", {"Content-Type": "text/html"}, "is no registry"),
        (manifest(), {"Content-Encoding": "gzip"}, "compresses"),
        (manifest(), {"Docker-Content-Digest": digest_of(b"other")}, "Docker-Content-Digest"),
        (manifest(schemaVersion=1), {}, "schemaVersion"),
        (manifest(layers=None), {}, "layers"),
        (manifest(layers=[]), {}, "layers"),
        (manifest(layers=[{"mediaType": WEIGHTS, "digest": digest_of(b"x"), "size": 1}] * 65537), {}, "larger|65536"),
        (manifest(layers=[{"mediaType": "application/vnd.zoo", "digest": digest_of(b"x"), "size": 1}]), {}, "a model's"),
        (layers(size=-1), {}, r"layers\[0\].size"),
        (layers(size=2**63), {}, r"layers\[0\].size"),
        (layers(size=1.5), {}, r"layers\[0\].size"),
        (layers(size=True), {}, r"layers\[0\].size"),
        (layers(digest="sha256:../../../../etc/passwd"), {}, r"layers\[0\].digest"),
        (layers(digest="sha256:" + "0" * 63), {}, r"layers\[0\].digest"),
        (layers(digest=5), {}, r"layers\[0\].digest"),
        (manifest(config=None), {}, "config is no object"),
        (manifest(config={"mediaType": "x", "digest": digest_of(b"x"), "size": 2}), {}, "config.size is another"),
        (
            manifest(mediaType="application/vnd.oci.image.index.v1+json", manifests=[]),
            {"Content-Type": "application/x"},
            "index",
        ),
    ],
)
async def test_a_manifest_that_can_not_be_right_is_refused_by_its_field(
    registry: Registry, pulls: Pulls, store: Store, body: bytes, headers: dict[str, str], words: str
) -> None:
    registry.manifests["zoo/tiny:latest"] = headers.pop("Content-Type", MANIFEST), body, headers
    with pytest.raises(RegistryError, match=f"^pull model manifest: .*({words})"):
        await pulled(pulls, asked(registry))
    assert names(store.root) in ([], ["downloads"]) and registry.sent == 0


@pytest.mark.req("LIB-06", "LIB-38")
async def test_what_a_manifest_and_a_config_say_beyond_what_we_know_is_kept(
    registry: Registry, pulls: Pulls, store: Store
) -> None:
    registry.model("zoo/tiny", b"x", renderer="qwen3.5", parser="qwen3.5", requires="0.14.0")
    await pulled(pulls, asked(registry))
    found = store.manifest(Name.parse(f"{registry.host}/zoo/tiny"))
    assert json.loads(store.blobs.read(found.config.digest, 1000))["zoo_unknown"] == {"kept": True}


@pytest.mark.req("LIB-07")
async def test_a_new_manifest_takes_away_what_only_the_old_one_needed(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", b"old")
    await pulled(pulls, asked(registry))
    registry.model("zoo/tiny", b"new")
    records = await pulled(pulls, asked(registry))
    assert records[-1] == {"status": "removing unused layers"}
    assert not store.blobs.has(digest_of(b"old")) and store.blobs.has(digest_of(b"new"))


@pytest.mark.req("LIB-40")
async def test_a_model_of_many_tensors_is_told_as_one(registry: Registry, pulls: Pulls, store: Store) -> None:
    tensors = [f"tensor {number}".encode() for number in range(200)]
    config = json.dumps({"model_format": "safetensors", "capabilities": ["image"]}).encode()
    kind = "application/vnd.ollama.image.tensor"
    found = [
        {"mediaType": kind, "digest": registry.add(data), "size": len(data), "name": f"unet/{number}"}
        for number, data in enumerate(tensors)
    ]
    top = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": registry.add(config), "size": len(config)}
    registry.manifests["zoo/tiny:latest"] = MANIFEST, manifest(layers=found, config=top), {}
    records = await pulled(pulls, asked(registry))
    told = [record for record in records if "digest" in record]
    total = sum(map(len, tensors)) + len(config)
    assert {(each["status"], each["digest"], each["total"]) for each in told} == {("pulling model", "sha256:model", total)}
    assert told[-1]["completed"] == total
    (model,) = store.list()
    assert model.is_image and model.refusal
    assert len(store.manifest(model.name).layers) == 200
