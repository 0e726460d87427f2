import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest

from serow.errors import ModelFileError
from serow.store.parts import check
from tests.pictures import SHAPES

PARTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}
FILES = {path.relative_to(SHAPES).as_posix(): path for path in SHAPES.rglob("*") if path.is_file()}
VOCABULARY: dict[str, int] = json.loads(FILES["tokenizer/vocab.json"].read_bytes())
TOKENIZER: dict[str, Any] = json.loads(FILES["tokenizer/tokenizer.json"].read_bytes())
MERGES = FILES["tokenizer/merges.txt"].read_text().splitlines()
ROWS = {"text_model.embeddings.token_embedding.weight": (752, 96)}


def checked(
    changes: Mapping[str, object] | None = None, rows: Mapping[str, tuple[int, ...]] = ROWS, other: tuple[str, ...] = ()
) -> None:
    """Check zoo-shapes with some files replaced; None: gone."""
    changed = changes or {}
    paths = [path for path in FILES if changed.get(path, "") is not None]

    def read(path: str) -> bytes:
        change = changed.get(path)
        return (
            FILES[path].read_bytes() if change is None else change if isinstance(change, bytes) else json.dumps(change).encode()
        )

    check(PARTS, [*paths, *(path for path in changed if path not in FILES)], read, lambda _: rows, {part: {} for part in other})


def without(**changes: Any) -> dict[str, Any]:
    return {**TOKENIZER, "model": {**TOKENIZER["model"], **changes}}


def test_a_whole_pipeline_passes() -> None:
    checked()


@pytest.mark.req("PIC-01")
def test_a_tokenizer_without_merges_is_one_that_has_its_tokenizer_json() -> None:
    checked({"tokenizer/merges.txt": None})


LISTS = {"tokenizer/tokenizer.json": None}
FIRST = dict(list(VOCABULARY.items())[:300])


@pytest.mark.req("PIC-02")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet/config.json": None}, r"the part unet \(UNet2DConditionModel\) has no config.json"),
        ({"vae/diffusion_pytorch_model.safetensors": None}, r"the part vae \(AutoencoderKL\) has no weights"),
        ({"scheduler/scheduler_config.json": None}, r"the part scheduler \(DDIMScheduler\) has no scheduler_config.json"),
        ({"unet/config.json": b"{"}, "unet/config.json is broken"),
        ({"unet/config.json": {"layers_per_block": 10_000}}, "unet/config.json: layers_per_block is 10000, which no model has"),
        ({"text_encoder/config.json": {"text_config": {"num_hidden_layers": 10**9}}}, "which no model has"),
        ({"text_encoder/config.json": {"hidden_size": 10**12}}, "hidden_size is 1000000000000, which no model has"),
        ({"unet/config.json": {"layers_per_block": [2] * 10_000}}, "has 10000 entries"),
        ({"unet/config.json": {"quantization_config": {"quant_method": "bitsandbytes"}}}, "is quantized with bitsandbytes"),
        ({"tokenizer/tokenizer.json": None, "tokenizer/vocab.json": None}, "the part tokenizer has no vocabulary"),
        ({"tokenizer/tokenizer.json": b"[]"}, "tokenizer.json is broken"),
        ({"tokenizer/tokenizer.json": b"[" * 100_000}, "tokenizer.json is broken"),
        ({"tokenizer/tokenizer.json": without(vocab={}, merges=[])}, "has 2 tokens where|has an empty vocabulary"),
        ({"tokenizer/tokenizer.json": without(merges=[])}, "tokenizer.json is cut: 0 merges can't make 752 tokens"),
        ({"tokenizer/tokenizer.json": without(vocab=FIRST, merges=[])}, "has 30[0-9] tokens where its text encoder has 752"),
        ({**LISTS, "tokenizer/merges.txt": None}, "has no merges.txt"),
        (
            {**LISTS, "tokenizer/merges.txt": "\n".join(MERGES[:9]).encode()},
            "merges.txt is cut: 8 merges",
        ),
        ({**LISTS, "tokenizer/vocab.json": FIRST}, "has 300 tokens where its text encoder has 752 rows|vocabulary is cut"),
        (
            {**LISTS, "tokenizer/vocab.json": {**VOCABULARY, "new": 752}},
            "a token of the number 752, its",
        ),
        ({**LISTS, "tokenizer/vocab.json": {}, "tokenizer/merges.txt": b"x"}, "has an empty vocabulary"),
        ({**LISTS, "tokenizer/vocab.json": b"\xff\xfe"}, "vocab.json is broken"),
    ],
)
def test_what_is_missing_cut_or_does_not_fit_its_neighbour_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        checked(changes)


def test_a_tokenizer_of_another_encoder_is_refused() -> None:
    with pytest.raises(ModelFileError, match="has 752 tokens where its text encoder has 49408"):
        checked({"text_encoder/config.json": {}}, rows={"embeddings.token_embedding.weight": (49408, 768)})


def test_weights_that_lie_elsewhere_are_not_missed() -> None:
    checked({"vae/diffusion_pytorch_model.safetensors": None}, other=("vae",))


def test_rows_of_a_table_that_are_there_to_pad_it_are_no_fault() -> None:
    checked(rows={"model.embed_tokens.weight": (768, 96)})


def test_weights_of_other_settings_are_refused_by_the_part() -> None:
    with pytest.raises(ModelFileError, match=r"^the part text_encoder \(CLIPTextModel\) does not fit its config.json"):
        checked(rows={"embeddings.token_embedding.weight": (752, 768)})


@pytest.mark.parametrize("data", [b"", b"[]", b'{"_class_name": "DDIM'], ids=["empty", "list", "cut"])
def test_settings_of_a_scheduler_that_are_not_whole_are_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"scheduler/scheduler_config.json is broken"):
        checked({"scheduler/scheduler_config.json": data})


def test_a_text_encoder_of_another_width_than_the_unet_reads_is_refused() -> None:
    config = {**json.loads(FILES["text_encoder/config.json"].read_bytes()), "hidden_size": 16}
    with pytest.raises(ModelFileError, match="the unet reads 96 numbers for a token of text, the text encoder writes 16"):
        checked({"text_encoder/config.json": config}, rows={})


@pytest.mark.parametrize(
    ("kind", "settings", "channels", "fits"),
    [
        ("UNet2DConditionModel", {"in_channels": 9, "out_channels": 4}, {"latent_channels": 4}, True),
        ("UNet2DConditionModel", {"in_channels": 4, "out_channels": 4}, {"latent_channels": 16}, False),
        ("UNet2DConditionModel", {"in_channels": 9}, {"latent_channels": 4}, True),
        ("FluxTransformer2DModel", {"in_channels": 384, "out_channels": 64}, {"latent_channels": 16}, True),
        ("FluxTransformer2DModel", {"in_channels": 64, "out_channels": None}, {"latent_channels": 4}, False),
        ("QwenImageTransformer2DModel", {"in_channels": 64, "out_channels": 16}, {"z_dim": 16}, True),
        ("ZImageTransformer2DModel", {"in_channels": 16}, {"latent_channels": 4}, False),
        ("NewTransformer2DModel", {"in_channels": 5}, {"latent_channels": 16}, True),
    ],
)
def test_an_autoencoder_of_other_channels_than_are_drawn_is_refused(
    kind: str, settings: dict[str, object], channels: dict[str, object], fits: bool
) -> None:
    part = "unet" if kind.startswith("UNet") else "transformer"
    configs = {f"{part}/config.json": settings, "vae/config.json": channels}
    refusal = nullcontext() if fits else pytest.raises(ModelFileError, match=rf"the parts {part} and vae do not fit each other")
    index = {part: ("diffusers", kind), "vae": ("diffusers", "AutoencoderKL")}
    with refusal:
        check(index, configs, lambda path: json.dumps(configs[path]).encode(), lambda _: {}, other={part: {} for part in index})


def test_a_number_of_heads_that_no_model_has_is_refused() -> None:
    config = {**json.loads(FILES["unet/config.json"].read_bytes()), "num_attention_heads": 10**9}
    with pytest.raises(ModelFileError, match="num_attention_heads is 1000000000, which no model has"):
        checked({"unet/config.json": config})
