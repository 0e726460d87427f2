import pytest

from serow.errors import ModelFileError
from serow.store.lora import check_fit, name_of
from serow.store.modelfile import parse

UNET = {"unet": {"down_blocks.0.attentions.0.to_q.weight": (32, 16), "conv_in.weight": (8, 4, 3, 3)}}
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
        check_fit("a.safetensors", lora, "unet", UNET)
    else:
        with pytest.raises(
            ModelFileError, match=r"a\.safetensors does not fit the model: .* has (16|32) numbers where the LoRA has"
        ):
            check_fit("a.safetensors", lora, "unet", UNET)


def test_names_of_another_home_are_left_to_the_loading() -> None:
    check_fit("a.safetensors", {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": (4, 99)}, "unet", UNET)


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
        check_fit("a.safetensors", lora, denoiser, {})
    else:
        with pytest.raises(ModelFileError, match="does not fit the model: it changes a"):
            check_fit("a.safetensors", lora, denoiser, {})
