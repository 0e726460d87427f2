import contextlib

import msgspec
import pytest

from serow.errors import ModelFileError
from serow.store.create import Recipe
from serow.store.lora import Changed, check_fit, name_of
from serow.store.manifest import CONFIG, JSON, MANIFEST, TENSOR
from serow.store.modelfile import parse
from serow.store.name import Name
from serow.store.store import Store
from tests.store.safetensors_files import header

LAYERS = {"unet": {"down_blocks.0.attentions.0.to_q.weight": (32, 16), "conv_in.weight": (8, 4, 3, 3)}}
UNET = Changed("unet", "UNet2DConditionModel", LAYERS)
FORMS = {
    "peft": ("unet.down_blocks.0.attentions.0.to_q.lora_{}.weight", "A", "B"),
    "diffusers": ("unet.down_blocks.0.attentions.0.to_q.lora.{}.weight", "down", "up"),
    "processors": ("unet.down_blocks.0.attentions.0.processor.to_q_lora.{}.weight", "down", "up"),
    "kohya": ("lora_unet_down_blocks_0_attentions_0_to_q.lora_{}.weight", "down", "up"),
}


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("columns", "rows", "fits"), [(16, 32, True), (24, 32, False), (16, 40, False)])
def test_the_sides_of_a_lora_are_those_of_the_layer_that_it_changes(form: str, columns: int, rows: int, fits: bool) -> None:
    name, down, up = FORMS[form]
    lora = {name.format(down): (4, columns), name.format(up): (rows, 4)}
    if fits:
        check_fit("a.safetensors", lora, UNET)
    else:
        with pytest.raises(
            ModelFileError, match=r"a\.safetensors does not fit the model: .* has (16|32) numbers where the LoRA has"
        ):
            check_fit("a.safetensors", lora, UNET)


def test_names_of_another_home_are_left_to_the_loading() -> None:
    check_fit("a.safetensors", {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": (4, 99)}, UNET)


@pytest.mark.parametrize(
    ("path", "name"), [("style.safetensors", "style"), ("x/my style v1.5.safetensors", "my_style_v1_5"), ("ü.safetensors", "_")]
)
def test_an_adapter_is_named_for_its_file(path: str, name: str) -> None:
    assert name_of(path) == name


@pytest.mark.req("PIC-03")
def test_an_adapter_line_may_end_with_a_weight() -> None:
    modelfile = parse(
        "FROM x\nADAPTER ./a b.safetensors 0.8\nADAPTER ./c.safetensors\nADAPTER ./d.gguf\nADAPTER e.safetensors -1"
    )
    assert modelfile.adapters == ("./a b.safetensors", "./c.safetensors", "./d.gguf", "e.safetensors")
    assert modelfile.request()["parameters"] == {"adapters": {"a_b": 0.8, "e": -1.0}}


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize(
    ("stem", "denoiser", "fits"),
    [
        ("transformer.context_refiner.0.attention.to_q", "unet", False),
        ("lora_unet_double_blocks_0_img_attn_proj", "unet", False),
        ("transformer.single_transformer_blocks.3.attn.to_k", "unet", False),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", "unet", True),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", "unet", True),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", "unet", True),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "transformer", False),
        ("lora_unet_input_blocks_4_1_proj_in", "transformer", False),
        ("transformer.layers.0.attention.to_q", "transformer", True),
        ("diffusion_model.double_blocks.0.img_attn.qkv", "transformer", True),
    ],
)
def test_a_lora_of_another_family_is_refused(stem: str, denoiser: str, fits: bool) -> None:
    lora = {f"{stem}.lora_A.weight": (4, 16), f"{stem}.lora_B.weight": (16, 4)}
    if fits:
        check_fit("a.safetensors", lora, Changed(denoiser, "", {}))
    else:
        with pytest.raises(ModelFileError, match="does not fit the model: it changes a"):
            check_fit("a.safetensors", lora, Changed(denoiser, "", {}))


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize(
    ("stem", "kind", "message"),
    [
        (
            "transformer.single_transformer_blocks.3.proj_mlp",
            "QwenImageTransformer2DModel",
            "it is made for FLUX, the model has a Qwen",
        ),
        ("lora_unet_single_blocks_3_linear1", "ZImageTransformer2DModel", "it is made for FLUX, the model has a ZImage"),
        ("transformer.transformer_blocks.3.img_mlp.net.2", "FluxTransformer2DModel", "it is made for Qwen-Image"),
        ("transformer.single_transformer_blocks.3.attn.to_qkv_mlp_proj", "FluxTransformer2DModel", "it is made for FLUX.2"),
        ("diffusion_model.layers.3.attention.to_q", "SD3Transformer2DModel", "it is made for Z-Image"),
    ],
)
def test_a_lora_of_another_transformer_is_refused_by_the_names_of_both(stem: str, kind: str, message: str) -> None:
    lora = {f"{stem}.lora_A.weight": (4, 16), f"{stem}.lora_B.weight": (16, 4)}
    with pytest.raises(ModelFileError, match=message):
        check_fit("a.safetensors", lora, Changed("transformer", kind, {}))


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize(
    "name", ["unet.down_blocks.0.attn2.to_k.lora_A.weight", "lora_unet_down_blocks_0_attn2_to_k.lora_down.weight"]
)
def test_a_lora_for_a_unet_of_another_text_encoder_is_refused(name: str) -> None:
    lora = {name: (4, 2048), name.replace("lora_A", "lora_B").replace("down.", "up."): (32, 4)}
    with pytest.raises(ModelFileError, match=r"made for Stable Diffusion XL, the model is Stable Diffusion 1$"):
        check_fit("a.safetensors", lora, Changed("unet", "UNet2DConditionModel", {}, 768))
    with pytest.raises(ModelFileError, match="the model is a model whose text has 96 numbers a token"):
        check_fit("a.safetensors", lora, Changed("unet", "UNet2DConditionModel", {}, 96))
    check_fit("a.safetensors", lora, Changed("unet", "UNet2DConditionModel", {}, 2048))


@pytest.mark.parametrize("shape", [(), (4,), (0, 0, 0)])
def test_a_half_of_no_sides_is_left_to_the_loading(shape: tuple[int, ...]) -> None:
    lora = {"unet.down_blocks.0.attn2.to_k.lora_A.weight": shape}
    with contextlib.suppress(ModelFileError):
        check_fit("a.safetensors", lora, Changed("unet", "UNet2DConditionModel", {}, 96))


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "1e9", "100.5", "-101"])
def test_a_weight_that_is_none_is_refused_with_its_line(weight: str) -> None:
    with pytest.raises(ModelFileError, match="the weight behind it must be between -100 and 100"):
        _ = parse(f"FROM x\nADAPTER ./a.safetensors {weight}\n").adapters


@pytest.mark.req("PIC-01", "PIC-03")
@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ("unet.down_blocks.0.attentions.0.to_q", "it changes a UNet, the model has a transformer"),
        ("transformer.transformer_blocks.0.img_mlp.x", "it is made for Qwen-Image, the model has a Flux2Transformer2DModel"),
        ("transformer.transformer_blocks.0.attn.to_q", ""),
    ],
)
def test_a_lora_over_a_model_of_ollamas_is_looked_at_when_the_model_is_made(store: Store, stem: str, message: str) -> None:
    index = {"architecture": "Flux2KleinPipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
    kind = {"_class_name": "Flux2Transformer2DModel"}
    files = {"model_index.json": index, "transformer/config.json": kind}
    layers = [_layer(store, JSON, path, msgspec.json.encode(said)) for path, said in files.items()]
    layers.append(_layer(store, TENSOR, "transformer/x_embedder.weight", header({"x_embedder.weight": (2, 2)})))
    config = _layer(store, CONFIG, "", b'{"model_format":"safetensors","capabilities":["image"]}')
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    store.put_manifest(Name.parse("klein"), msgspec.json.encode(manifest))
    digest, _ = store.blobs.put(header({f"{stem}.lora_A.weight": (4, 8), f"{stem}.lora_B.weight": (8, 4)}))
    recipe = Recipe(source=Name.parse("klein"), adapters={"a.safetensors": digest})
    with pytest.raises(ModelFileError, match=message) if message else contextlib.nullcontext():
        list(store.create(Name.parse("styled"), recipe))


def _layer(store: Store, media_type: str, name: str, data: bytes) -> dict[str, object]:
    digest, _ = store.blobs.put(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **({"name": name} if name else {})}
