import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store.checkpoint import by_part, is_lora, recognise
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.stable_diffusion import settings, vocabulary
from serow.store.store import Store
from tests.store.safetensors_files import header

UNET = "model.diffusion_model.input_blocks.0.0.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
CLIP = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
OPEN = "cond_stage_model.model.token_embedding.weight"
XL = (
    "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
    "conditioner.embedders.1.model.positional_embedding",
)
SHAPE = (320, 4, 3, 3)


@pytest.mark.req("PIC-02")
@pytest.mark.parametrize(
    ("path", "names", "kind", "prediction"),
    [
        ("dreamshaper.safetensors", (CLIP,), "sd1", "epsilon"),
        ("v2-1_768-ema-pruned.safetensors", (OPEN,), "sd2", "v_prediction"),
        ("v2-1_512-ema-pruned.safetensors", (OPEN,), "sd2", "epsilon"),
        ("juggernaut.safetensors", XL, "xl", "epsilon"),
        ("noob-v.safetensors", (*XL, "v_pred", "ztsnr"), "xl", "v_prediction"),
    ],
)
def test_the_kind_of_a_checkpoint_is_told_by_its_names(path: str, names: tuple[str, ...], kind: str, prediction: str) -> None:
    found = recognise(path, {UNET: SHAPE, VAE: (1,), **dict.fromkeys(names, (1,))})
    assert (found.kind, found.prediction) == (kind, prediction) and found.is_whole


@pytest.mark.req("PIC-02")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FluxTransformer2DModel"),
        ("double_blocks.0.img_attn.qkv.weight", "FluxTransformer2DModel"),
        ("transformer_blocks.0.img_mlp.net.0.proj.weight", "QwenImageTransformer2DModel"),
        ("model.diffusion_model.cap_embedder.0.weight", "ZImageTransformer2DModel"),
        ("input_blocks.0.0.weight", "UNet2DConditionModel"),
        (UNET, "UNet2DConditionModel"),
    ],
)
def test_a_denoiser_alone_is_known_by_its_class(name: str, kind: str) -> None:
    found = recognise("x.gguf", {name: SHAPE})
    assert found.classes[0] == kind and not found.is_whole
    assert by_part({name: SHAPE}, "transformer") == {"transformer": {name: SHAPE}}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({UNET: (320, 9, 3, 3), VAE: (1,), CLIP: (1,)}, "starts from a picture and a mask"),
        ({UNET: SHAPE, VAE: (1,), "conditioner.embedders.0.model.text_projection": (1,)}, "is the refiner"),
        ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 8)}, "is a LoRA, which changes a model"),
        ({"something.weight": (1,)}, "holds no model of a kind that is known here"),
        ({}, "holds no model"),
    ],
)
def test_what_is_no_model_to_draw_with_is_refused(tensors: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        recognise("x.safetensors", tensors)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["unet.a.lora_A.weight", "unet.a.lora_B.weight"], True),
        (["lora_te_a.lora_down.weight", "lora_te_a.alpha"], True),
        (["unet.a.processor.to_q_lora.up.weight"], True),
        (["a.weight"], False),
        ([], False),
    ],
)
def test_a_lora_is_known_by_its_halves(names: list[str], expected: bool) -> None:
    assert is_lora(dict.fromkeys(names, ())) is expected


def test_the_vocabulary_is_clips() -> None:
    files = vocabulary()
    tokens = json.loads(files["vocab.json"])
    known = {"a</w>": 320, "photo</w>": 1125, "cat</w>": 2368, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert len(tokens) == 49408 and {text: tokens[text] for text in known} == known
    assert files["merges.txt"].split(b"\n")[1] == b"i n"


def test_each_kind_comes_with_every_file_of_its_pipeline() -> None:
    xl = settings(recognise("x", {UNET: SHAPE, VAE: (1,), **dict.fromkeys(XL, (1,))}))
    index = json.loads(xl["model_index.json"])
    folders = {path.partition("/")[0] for path in xl if "/" in path}
    assert folders == {name for name, entry in index.items() if isinstance(entry, list)}


@pytest.mark.req("PIC-02")
def test_a_checkpoint_of_other_sides_than_the_known_settings_is_refused_when_the_model_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    names = {UNET: SHAPE, VAE: (512, 4, 3, 3), CLIP: (77, 768), CLIP.replace("position", "token"): (49408, 768)}
    small = {**names, UNET: (64, 4, 3, 3)}
    for file, shapes in (("usual", names), ("small", small)):
        digest, _ = store.blobs.put(header(shapes))
        recipe = Recipe(files={f"{file}.safetensors": digest})
        refusal = nullcontext() if file == "usual" else pytest.raises(ModelFileError, match=r"^small\.safetensors is not built")
        with refusal as refused:
            list(store.create(Name.parse(file), recipe))
    assert refused is not None and refused.value.hint.startswith("two lines: FROM a folder that has its settings, then FROM")
