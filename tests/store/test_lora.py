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
