"""A LoRA is compared with a UNet whose layers have their original names."""

import pytest

from serow.errors import ModelFileError
from serow.store.lora import Changed, check_fit
from serow.store.original import renamed


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("input_blocks.1.1.transformer_blocks.0.attn1.to_q", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
        ("input_blocks.4.0.in_layers.2", "down_blocks.1.resnets.0.conv1"),
        ("input_blocks.8.1.proj_in", "down_blocks.2.attentions.1.proj_in"),
        ("middle_block.1.proj_out", "mid_block.attentions.0.proj_out"),
        ("middle_block.2.emb_layers.1", "mid_block.resnets.1.time_emb_proj"),
        ("output_blocks.0.0.skip_connection", "up_blocks.0.resnets.0.conv_shortcut"),
        ("output_blocks.11.1.proj_in", "up_blocks.3.attentions.2.proj_in"),
        ("input_blocks.0.0", None),
        ("input_blocks.3.0.op", None),
        ("output_blocks.2.1.conv", None),
        ("output_blocks.5.2.conv", None),
        ("time_embed.0", None),
        ("middle_block.9.x", None),
    ],
)
def test_a_layer_has_the_name_that_diffusers_gives_it(original: str, name: str | None) -> None:
    assert dict(renamed({f"{original}.weight": (8, 8)}, 2)) == ({} if name is None else {f"{name}.weight": (8, 8)})


@pytest.mark.req("PIC-03")
@pytest.mark.parametrize("form", ["unet.{}.attn1.to_q.lora_A.weight", "lora_unet_{}_attn1_to_q.lora_down.weight"])
def test_a_lora_of_other_sides_is_refused_over_a_checkpoint_of_one_file(form: str) -> None:
    stem = "down_blocks.0.attentions.0.transformer_blocks.0"
    tensors = dict(renamed({"input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (320, 320)}, 2))
    name = form.format(stem if form.startswith("unet.") else stem.replace(".", "_"))
    model = Changed("unet", "UNet2DConditionModel", {"unet": tensors})
    check_fit("a.safetensors", {name: (4, 320)}, model)
    with pytest.raises(ModelFileError, match="has 320 numbers where the LoRA has 640"):
        check_fit("a.safetensors", {name: (4, 640)}, model)
