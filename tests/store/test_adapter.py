"""Adapters that fit the model that they are to change, and all the ways in which one does not."""

from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import LoadRequest
from serow.engines.child import Listen
from serow.engines.llamacpp.flags import ik_flags, llama_cpp_flags
from serow.engines.llamacpp.params import common_params, describe
from serow.engines.llamacpp.slot_cache import _key
from serow.errors import ModelFileError
from serow.options import LoadOptions
from serow.scheduler.resident import key_of
from serow.store import gguf
from serow.store.adapter import check_fit
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store
from tests.gguf_files import bert, lora
from tests.pictures import SHAPES, create_pipeline


@pytest.fixture
def base(zoo: Path) -> Path:
    return zoo / "zoo-think.gguf"


@pytest.mark.req("RES-08")
def test_an_adapter_of_the_models_shapes_fits(base: Path, tmp_path: Path) -> None:
    parts = [tensor.name.removesuffix(".weight") for tensor in gguf.read(base).tensors if "blk" in tensor.name]
    check_fit(gguf.read(lora(base, tmp_path / "a.gguf", parts=[part for part in parts if "norm" not in part])), gguf.read(base))


@pytest.mark.req("RES-08")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"architecture": "llama"}, "it is made for llama, the model is qwen3"),
        ({"extra_rows": 7}, 'the shapes of "blk.0.attn_q.weight" differ'),
        ({"extra_columns": 7}, 'the shapes of "blk.0.attn_q.weight" differ'),
        ({"parts": ["blk.9.attn_q"]}, 'that has no tensor "blk.9.attn_q.weight"'),
        ({"lacks": "lora_b"}, 'only one half of the change of "blk.0.attn_q.weight"'),
        ({"lacks": "lora_a"}, 'only one half of the change of "blk.0.attn_q.weight"'),
        ({"parts": []}, "it has no LoRA tensors"),
        ({"kind": "ia3"}, "the file is not a LoRA adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_the_reason(
    base: Path, tmp_path: Path, how: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelFileError, match=reason):
        check_fit(gguf.read(lora(base, tmp_path / "a.gguf", **how)), gguf.read(base))


@pytest.mark.req("RES-08")
def test_a_model_is_no_adapter(base: Path, tmp_path: Path) -> None:
    for path in (base, bert(tmp_path / "bert.gguf")):
        with pytest.raises(ModelFileError, match="not a LoRA adapter"):
            check_fit(gguf.read(path), gguf.read(base))


def made(store: Store, name: str, **recipe: Any) -> None:
    for _ in store.create(Name.parse(name), Recipe(**recipe)):
        pass


@pytest.mark.req("RES-08")
def test_an_adapter_is_judged_wherever_it_is_named(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    model = store.blobs.add(base)
    good, bad = (store.blobs.add(lora(base, tmp_path / f"{rows}.gguf", extra_rows=rows)) for rows in (0, 3))
    made(store, "mine", files={"m.gguf": model}, adapters={"a.gguf": good})
    made(store, "again", source=Name.parse("mine"), adapters={"b.gguf": good})
    assert [len(store.resolve(name).adapters) for name in ("mine", "again")] == [1, 2]
    recipes: list[dict[str, Any]] = [
        {"files": {"m.gguf": model}, "adapters": {"a.gguf": bad}},
        {"files": {"m.gguf": model, "n.gguf": bad}},
        {"source": Name.parse("mine"), "adapters": {"a.gguf": bad}},
    ]
    for recipe in recipes:
        with pytest.raises(ModelFileError, match="does not fit"):
            made(store, "bad", **recipe)
    assert not store.has(Name.parse("bad"))


@pytest.mark.req("RES-08")
def test_a_model_that_draws_takes_no_adapter_of_a_language_model(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    create_pipeline(store, "drawing", SHAPES)
    with pytest.raises(ModelFileError, match="LoRA of an image model"):
        made(store, "bad", source=Name.parse("drawing"), adapters={"a.gguf": store.blobs.add(lora(base, tmp_path / "a.gguf"))})


@pytest.mark.req("RES-08")
def test_models_with_other_adapters_share_neither_a_process_nor_its_slots(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    model = store.blobs.add(base)
    made(store, "plain", files={"m.gguf": model})
    for seed in (1, 2):
        adapter = store.blobs.add(lora(base, tmp_path / f"{seed}.gguf", seed=seed))
        made(store, f"mine:{seed}", files={"m.gguf": model}, adapters={"a.gguf": adapter})
    found = [store.resolve(name) for name in ("plain", "mine:1", "mine:2")]
    requests = [LoadRequest(each, LoadOptions(num_ctx=256), 1) for each in found]
    assert len({key_of(each) for each in found}) == len({_key(each) for each in requests}) == 3


@pytest.mark.req("RES-08")
def test_every_engine_is_told_of_every_adapter(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    first, second = (store.blobs.add(lora(base, tmp_path / f"{seed}.gguf", seed=seed)) for seed in (1, 2))
    made(store, "once", files={"m.gguf": store.blobs.add(base)}, adapters={"a.gguf": first})
    made(store, "mine", source=Name.parse("once"), adapters={"a.gguf": second})
    spec = describe(LoadRequest(store.resolve("mine"), LoadOptions(num_ctx=256), 1))
    listen = Listen("127.0.0.1", 1, "key")
    paths = [str(path) for path in store.resolve("mine").adapters]
    assert len(paths) == 2 and [each.path for each in common_params(spec, listen).lora_adapters] == paths
    for flags in (llama_cpp_flags, ik_flags):
        told = list(flags(spec, listen, False))
        assert [told[at + 1] for at, flag in enumerate(told) if flag == "--lora"] == paths
