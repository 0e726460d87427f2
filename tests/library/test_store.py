"""The store below the library: what is made, kept, named and taken away, whatever happens meanwhile."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from serow.errors import ModelFileError, ModelNotFound, RequestError, SerowError
from serow.library.conversion.ggml import Q4_K, Q5_0, Q6_K, Q8_0
from serow.library.conversion.gguf_file import Source, Tensor
from serow.library.conversion.quantizer import Rules
from serow.library.library import Library
from serow.library.verify import mark_of
from serow.server.app import create_app
from serow.settings import Settings
from serow.store.links import is_linked, link
from serow.store.name import Name
from serow.store.prune import prune
from serow.store.recipe import Recipe
from serow.store.store import Store
from serow.store.weights import describe
from tests.store.files import MODEL, gguf_file

from .conftest import Record, digest_of

HOUR = 3600.0


def make(store: Store, name: str, data: bytes | None = None, **recipe: Any) -> str:
    """A model of a file, or of the recipe's own source; returns the digest of the file."""
    digest, _ = store.blobs.put(gguf_file() if data is None else data)
    given = recipe if "source" in recipe else {"files": {"a.gguf": digest}, **recipe}
    for _ in store.create(Name.parse(name), Recipe(**given)):
        pass
    return digest


async def records(work: AsyncIterator[Record]) -> list[Record]:
    async with asyncio.timeout(60):
        return [record async for record in work]


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.req("LIB-31")
def test_a_files_own_chat_template_is_run_as_it_is(store: Store) -> None:
    make(store, "own", gguf_file([*MODEL.items(), ("tokenizer.chat_template", "{{ messages }}")]))
    assert [layer.media_type.rpartition(".")[2] for layer in store.manifest(Name.parse("own")).layers] == ["model"]
    assert store.resolve("own").chat_template == "{{ messages }}"


@pytest.mark.req("LIB-38")
def test_a_model_that_only_a_renderer_of_ollama_knows_is_refused_when_it_is_asked(store: Store) -> None:
    make(store, "mute", renderer="qwen3.5", parser="qwen3.5")
    assert "no chat template" in store.resolve("mute").refusal
    make(store, "told", template="{{ .Prompt }}", renderer="qwen3.5")
    assert store.resolve("told").refusal == ""


@pytest.mark.req("LIB-30")
def test_what_is_said_of_a_model_lies_over_its_source(store: Store) -> None:
    make(store, "base", system="Old.", template="{{ .Prompt }}", parameters={"top_k": 3, "stop": ["a", "b"]}, license=("MIT",))
    source = Name.parse("base")
    make(
        store,
        "over",
        source=source,
        license=("MIT", "BSD"),
        parameters={"stop": ["c"], "top_k": None},
        info={"context_length": 99, "model_family": "zoo", "capabilities": ["completion"]},
        dropped=frozenset({"system"}),
    )
    model = store.resolve("over")
    assert (model.system, model.license, model.parameters) == ("", ("MIT", "BSD"), {"stop": ("c",)})
    assert model.details is not None and model.details.family == "zoo"


@pytest.mark.req("LIB-28", "LIB-30")
@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"requires": "new"}, "valid semver"),
        ({"info": {"context_length": "many"}}, 'info field "context_length" must be a number'),
        ({"info": {"embedding_length": -1}}, 'info field "embedding_length" must be a non-negative integer'),
        ({"info": {"model_family": 5}}, 'info field "model_family" must be a string'),
        ({"quantize": "Q9"}, "unsupported quantization type Q9 - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"),
        ({"draft_quantize": "Q8_0"}, "requires a DRAFT model"),
        ({"files": {"C:\\x.gguf": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"files": {"C:x.gguf": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"adapters": {f"{n}.gguf": "sha256:" + "0" * 64 for n in range(2)}}, "only one adapter is currently supported"),
        ({"messages": ({"role": "robot", "content": "x"},)}, "message role"),
    ],
)
def test_what_can_be_refused_is_before_a_file_is_opened(recipe: dict[str, Any], words: str) -> None:
    with pytest.raises(SerowError, match=words):
        Recipe(**{"files": {"a.gguf": "sha256:" + "0" * 64}, **recipe}).check()


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize(("count", "words"), [(1, "has 1 shards, expected 2"), (2, "")], ids=["not whole", "whole"])
def test_a_split_model_is_kept_in_its_parts_and_laid_out_under_their_names(store: Store, count: int, words: str) -> None:
    parts = [
        gguf_file([*MODEL.items(), ("split.no", 0), ("split.count", 2)]),
        gguf_file([("general.architecture", "toy"), ("split.no", 1), ("split.count", 2)], data=bytes(5000)),
    ][:count]
    files = {f"m-{number:05}-of-00002.gguf": store.blobs.put(data)[0] for number, data in enumerate(parts, 1)}
    if words:
        with pytest.raises(ModelFileError, match=words):
            make(store, "split", files=files)
        return
    make(store, "split", files=files)
    model = store.resolve("split")
    assert model.weights.name == "model-00001-of-00002.gguf"
    assert [path.read_bytes() for path in sorted(model.weights.parent.iterdir())] == parts
    store.delete(Name.parse("split"))
    assert not model.weights.exists()


@pytest.mark.req("LIB-32")
@pytest.mark.parametrize("wanted", ["Q8_0", "Q4_K_M", "F32"])
async def test_weights_are_quantized_in_a_process_of_its_own(library: Library, store: Store, zoo: Path, wanted: str) -> None:
    digest = store.blobs.add(zoo / "zoo-think.gguf")
    told = await records(library.create(Name.parse("small"), Recipe(files={"z.gguf": digest}, quantize=wanted.lower())))
    assert any(record["status"] == f"quantizing F16 model to {wanted}" for record in told)
    model = store.resolve("small")
    assert describe(model.weights).file_type == wanted and model.details is not None
    assert model.details.quantization_level == wanted
    assert not list((store.root / "downloads").iterdir())


@pytest.mark.req("LIB-32")
async def test_what_is_quantized_is_not_quantized_again(library: Library, store: Store, zoo: Path) -> None:
    digest = store.blobs.add(zoo / "zoo-think.gguf")
    await records(library.create(Name.parse("small"), Recipe(files={"z.gguf": digest}, quantize="Q8_0")))
    with pytest.raises(RequestError, match="quantization is only supported for F16, BF16 and F32 models"):
        await records(library.create(Name.parse("twice"), Recipe(source=Name.parse("small"), quantize="Q8_0")))


@pytest.mark.req("LIB-32")
def test_each_tensor_gets_the_type_that_llama_cpp_gives_it() -> None:
    names = ["token_embd.weight", "output_norm.weight"]
    for layer in range(8):
        names += [f"blk.{layer}.{part}.weight" for part in ("attn_q", "attn_v", "ffn_down", "attn_norm")]
    tensors = tuple(Tensor(name, (256, 4) if "norm" not in name else (256,), 1, 0) for name in names)
    rules = Rules(Source(3, {}, tensors, 0, 32), "Q4_K_M")
    kinds = {tensor.name: rules.choose(tensor) for tensor in tensors}
    assert kinds["token_embd.weight"] == Q6_K and kinds["output_norm.weight"] == 1
    assert kinds["blk.0.attn_q.weight"] == Q4_K
    assert [kinds[f"blk.{layer}.attn_v.weight"] == Q6_K for layer in range(8)] == [
        *(True, False, False, True, False, False, True, True)
    ]
    narrow = Tensor("blk.0.attn_q.weight", (128, 4), 1, 0)
    assert Rules(Source(3, {}, (narrow,), 0, 32), "Q4_K_M").choose(narrow) == Q5_0
    assert Rules(Source(3, {}, (narrow,), 0, 32), "Q8_0").choose(narrow) == Q8_0


@pytest.mark.req("LIB-33")
def test_a_file_is_linked_and_a_change_by_somebody_else_is_said(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file())
    store.blobs.root.mkdir(parents=True)
    digest = digest_of(path.read_bytes())
    assert link(path, store.root, digest) and is_linked(store.blobs.path(digest))
    assert store.blobs.path(digest).stat().st_ino == path.stat().st_ino
    make(store, "linked")
    assert store.resolve("linked").linked == (digest,)
    with path.open("r+b") as file:
        file.write(b"GGUF")
    os.utime(path, (1, 1))
    with pytest.raises(ModelFileError, match="was changed"):
        store.resolve("linked")


@pytest.mark.req("LIB-34")
async def test_an_upload_is_new_or_there_and_nothing_is_kept_of_a_wrong_one(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path))
    data = b"x" * 3_000_000
    digest = digest_of(data)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        wrong = "sha256:" + "0" * 64
        assert (await client.post(f"/api/blobs/{wrong}", content=data)).json() == {
            "error": f'digest mismatch, expected "{wrong}", got "{digest}"'
        }
        assert (await client.head(f"/api/blobs/{digest}")).status_code == 404
        first, second = await asyncio.gather(*(client.post(f"/api/blobs/{digest}", content=data) for _ in range(2)))
        assert {first.status_code, second.status_code} <= {200, 201}
        for spelling in (digest, digest.replace(":", "-"), digest.replace("sha256:", "").upper().join(["sha256:", ""])):
            assert (await client.post(f"/api/blobs/{spelling}", content=b"")).status_code == 200
        assert (await client.post("/api/blobs/sha256:xyz", content=b"")).json() == {"error": "invalid digest format"}
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [digest.replace(":", "-")]


@pytest.mark.req("LIB-35")
async def test_a_deletion_can_be_weighed_first(library: Library, store: Store) -> None:
    make(store, "one", system="Own.")
    make(store, "two")
    alone = store.manifest(Name.parse("one"))
    own = sum(layer.size for layer in (*alone.layers[1:],))
    assert await library.freed(Name.parse("one"), "one") == own
    assert store.has(Name.parse("one"))
    await library.delete(Name.parse("one"), "one")
    with pytest.raises(ModelNotFound, match="model 'one' not found"):
        await library.freed(Name.parse("one"), "one")


@pytest.mark.req("LIB-36")
async def test_what_belongs_to_nothing_is_found_and_removed_on_request(library: Library, store: Store) -> None:
    make(store, "kept")
    orphan, _ = store.blobs.put(b"orphan")
    young, _ = store.blobs.put(b"young")
    partial = store.blobs.root / ".serow-01234567-partial"
    partial.write_bytes(b"half")
    (store.blobs.root / "somebody.txt").write_bytes(b"a stranger's")
    for path in (store.blobs.path(orphan), partial, store.blobs.root / "somebody.txt"):
        age(path, 2 * HOUR)
    broken = store.index.first / "registry.ollama.ai" / "library" / "broken" / "latest"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    found = await library.prune(HOUR, dry_run=True)
    assert {(waste.kind, waste.what) for waste in found} == {
        ("unreferenced", orphan),
        ("partial", ".serow-01234567-partial"),
        ("broken", "registry.ollama.ai/library/broken/latest"),
    }
    assert store.blobs.has(orphan)
    assert {waste.kind for waste in await library.prune(HOUR, dry_run=False) if waste.is_removed} == {"unreferenced", "partial"}
    assert not store.blobs.has(orphan) and store.blobs.has(young) and broken.exists()
    assert (store.blobs.root / "somebody.txt").exists() and [model.name.model for model in store.list()] == ["kept"]
    with pytest.raises(RequestError, match="SEROW_NOPRUNE"):
        prune(Store(store.root, may_prune=False), HOUR, dry_run=False)


@pytest.mark.req("LIB-36")
def test_a_model_that_is_deleted_while_it_is_looked_at_is_no_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, "a")
    (path,) = store.index.all()
    monkeypatch.setattr(store.index, "all", lambda: [path, path.with_name("gone")])
    assert prune(store, HOUR, dry_run=True) == []
    path.unlink()
    assert prune(store, HOUR, dry_run=True) == []


@pytest.mark.req("LIB-36")
def test_links_and_old_names_are_followed_and_left_as_they_are(store: Store, tmp_path: Path) -> None:
    digest = make(store, "linked")
    path, elsewhere = store.blobs.path(digest), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert Store(store.root).resolve("linked").weights.read_bytes() == gguf_file()
    make(store, "again")
    assert path.is_symlink()
    path.unlink()
    elsewhere.rename(store.blobs.root / digest)
    assert Store(store.root).resolve("linked").weights.name == digest


@pytest.mark.req("LIB-01", "LIB-37")
def test_two_folders_that_differ_in_case_are_one_model(store: Store) -> None:
    make(store, "Zoo", system="Old.")
    other = store.index.first / "registry.ollama.ai" / "library" / "zOO" / "latest"
    other.parent.mkdir()
    other.write_bytes(store.manifest_data(Name.parse("Zoo")))
    age(store.index.first / "registry.ollama.ai" / "library" / "Zoo" / "latest", 100)
    (model,) = store.list()
    assert model.name.model == "zOO"
    (waste,) = prune(store, HOUR, dry_run=True)
    assert (waste.kind, waste.what) == ("double", "registry.ollama.ai/library/Zoo/latest")


@pytest.mark.req("LIB-37")
def test_a_thousand_models_are_listed_without_reading_them_again(store: Store) -> None:
    make(store, "one")
    data = store.manifest_data(Name.parse("one"))
    for number in range(1000):
        path = store.index.first / Name.parse(f"m{number}").path
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    assert len(store.list()) == 1001
    best = min(_timed(store) for _ in range(5))
    assert best < 0.5  # 50 ms on a machine that does nothing else


def _timed(store: Store) -> float:
    began = time.perf_counter()
    store.list()
    return time.perf_counter() - began


@pytest.mark.req("LIB-12")
async def test_a_broken_blob_is_found_by_reading_it_again(library: Library, store: Store) -> None:
    digest = make(store, "good")
    assert (await records(library.verify(None)))[-1] == {"status": "success"}
    data = bytearray(store.blobs.path(digest).read_bytes())
    data[-1] ^= 1
    store.blobs.path(digest).write_bytes(data)
    with pytest.raises(ModelFileError, match=r"^broken: good:latest$"):
        await records(library.verify(Name.parse("good")))
    assert mark_of(store.root / "downloads", digest).exists()


@pytest.mark.req("LIB-07", "LIB-28")
def test_nothing_is_left_of_what_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, "old", system="Old.")
    before = sorted(path.name for path in store.blobs.root.iterdir())
    monkeypatch.setattr(Store, "put_manifest", lambda *_: (_ for _ in ()).throw(ModelFileError("no")))
    with pytest.raises(ModelFileError, match="no"):
        make(store, "old", system="New.", license=("MIT",))
    assert sorted(path.name for path in store.blobs.root.iterdir()) == before
    assert store.resolve("old").system == "Old."


@pytest.mark.req("LIB-07", "LIB-35")
async def test_creations_and_deletions_meet_without_harm(library: Library, store: Store) -> None:
    make(store, "base", system="Base.")

    async def create(number: int) -> None:
        await records(
            library.create(Name.parse(f"made{number % 3}"), Recipe(source=Name.parse("base"), system=f"{number % 5}"))
        )

    async def delete(number: int) -> None:
        with suppress(ModelNotFound):
            await library.delete(Name.parse(f"made{number % 3}"), "x")

    await asyncio.gather(*(create(number) if number % 2 else delete(number) for number in range(60)))
    for model in store.list():
        manifest = store.manifest(model.name)
        assert all(store.blobs.has(layer.digest) for layer in (*manifest.layers, manifest.config))
    named = store.named_digests()
    assert {f"sha256:{path.name[7:]}" for path in store.blobs.root.iterdir()} == named


@pytest.mark.req("LIB-07")
def test_a_blob_that_is_held_outlasts_the_deletion_of_its_model(store: Store) -> None:
    digest = make(store, "held")
    store.hold([digest])
    store.delete(Name.parse("held"))
    assert store.blobs.has(digest)
    threading.Thread(target=store.release, args=([digest],)).start()
    deadline = time.monotonic() + 10
    while store.blobs.has(digest):
        assert time.monotonic() < deadline


@pytest.mark.req("LIB-04", "LIB-13")
def test_proxies_and_a_store_that_can_not_be_written_are_told_at_the_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir()
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.lan:1")
    monkeypatch.setattr(os, "access", lambda *_: False)
    told = list(Library(store).notices())
    assert told[0] == "models are fetched through http://me:***@proxy.lan:1"
    assert told[1].endswith("can't be written: models run, none can be pulled or made")
