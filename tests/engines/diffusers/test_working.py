"""What drawing takes beside the weights, compared with what was measured of networks of these configurations."""

from types import SimpleNamespace
from typing import Any

import pytest

from serow.engines.diffusers.working import check_room, largest, working
from serow.errors import NotEnoughMemory

MIB = 1 << 20
FLOAT32 = SimpleNamespace(itemsize=4)
VAE = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4}
UNET = {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2}


def part(config: dict[str, Any], **more: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**config), dtype=FLOAT32, **more)


def stable_diffusion(**more: Any) -> Any:
    return SimpleNamespace(unet=part(UNET), vae=part(VAE, **more), vae_scale_factor=8)


@pytest.mark.parametrize(("side", "mib"), [(256, 310), (512, 1188)])
def test_decoding_takes_what_was_measured(side: int, mib: int) -> None:
    assert working(stable_diffusion(), (side, side), 1).decode == pytest.approx(mib * MIB, rel=0.15)


@pytest.mark.parametrize(("base", "side", "mib"), [(24, 768, 1514), (48, 512, 1378)])
def test_decoding_by_an_autoencoder_of_videos_takes_what_was_measured(base: int, side: int, mib: int) -> None:
    pipe = SimpleNamespace(vae=part({"base_dim": base, "dim_mult": [1, 2, 4, 4], "z_dim": 16}))
    assert working(pipe, (side, side), 1).decode == pytest.approx(mib * MIB, rel=0.15)


@pytest.mark.parametrize(("width", "mib"), [(3072, 130), (3840, 191)], ids=["FLUX", "Z-Image"])
def test_a_step_of_a_transformer_takes_what_was_measured_between_two_sizes(width: int, mib: int) -> None:
    pipe = SimpleNamespace(transformer=part({"dim": width, "patch_size": 2}), vae=None, vae_scale_factor=8)
    more = working(pipe, (512, 512), 1).step - working(pipe, (256, 256), 1).step
    assert more == pytest.approx(mib * MIB, rel=0.2)


def test_a_step_of_a_unet_takes_what_was_allocated_where_its_first_block_has_attention() -> None:
    blocks = {"block_out_channels": [320, 640], "down_block_types": ["CrossAttnDownBlock2D"] * 2, "layers_per_block": 2}
    found = working(SimpleNamespace(unet=part(blocks), vae=None, vae_scale_factor=8), (512, 512), 1).step
    assert found == pytest.approx(130 * MIB, rel=0.1)


def test_twice_the_pixels_take_twice_as_much_and_guidance_doubles_a_step() -> None:
    pipe = stable_diffusion()
    one, twice, guided = working(pipe, (512, 512), 1), working(pipe, (512, 1024), 1), working(pipe, (512, 512), 2)
    assert twice.step == pytest.approx(2 * one.step) and twice.decode == pytest.approx(2 * one.decode)
    assert guided.step == pytest.approx(2 * one.step) and guided.decode == one.decode


def test_what_can_be_decoded_in_tiles_needs_only_a_tile() -> None:
    whole, tiled = (working(each, (4096, 4096), 1) for each in (stable_diffusion(), stable_diffusion(enable_tiling=None)))
    large = working(stable_diffusion(enable_tiling=None, tile_sample_min_size=1024), (4096, 4096), 1)
    assert tiled.tiled < 4 << 30 < large.tiled < whole.decode == whole.tiled


def test_a_picture_that_can_not_fit_is_refused_with_numbers_and_a_size_that_fits() -> None:
    pipe = stable_diffusion()
    check_room(pipe, (512, 512), 2, 2 << 30, 8)
    with pytest.raises(
        NotEnoughMemory, match=r"^a picture of 2048x1024 needs about 8\.\d GiB .*, 2\.0 GiB are free: (\d+)x(\d+) fits$"
    ) as refused:
        check_room(pipe, (2048, 1024), 2, 2 << 30, 8)
    width, height = map(int, str(refused.value).split(": ")[1].split(" ")[0].split("x"))
    assert width == pytest.approx(2 * height, abs=16) and width % 8 == height % 8 == 0
    check_room(pipe, (width, height), 2, 2 << 30, 8)


def test_where_nothing_fits_that_is_said() -> None:
    pipe = stable_diffusion()
    assert largest(pipe, (512, 512), 1, 1 << 20, 8) is None
    with pytest.raises(NotEnoughMemory, match="unload other models"):
        check_room(pipe, (512, 512), 1, 1 << 20, 8)


@pytest.mark.parametrize(
    "pipe",
    [
        SimpleNamespace(),
        SimpleNamespace(transformer=part({}), vae=part({})),
        SimpleNamespace(unet=part({}), vae=None),
        SimpleNamespace(transformer=part({"num_attention_heads": "x", "attention_head_dim": None}), vae=part({"base_dim": 96})),
    ],
)
def test_what_is_not_known_is_never_refused(pipe: Any) -> None:
    check_room(pipe, (4096, 4096), 2, 64 << 20, 8)
    check_room(stable_diffusion(), None, 2, 0, 8)


@pytest.mark.parametrize(
    ("config", "vae", "tokens"),
    [
        ({"num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 64, "patch_size": 1}, 16, 1024),  # FLUX
        ({"num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 64, "patch_size": 2}, 16, 1024),  # Qwen-Image
        ({"dim": 3072, "all_patch_size": (2,), "in_channels": 16}, 16, 1024),  # Z-Image
        ({"num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 16, "patch_size": 1}, 16, 4096),
    ],
)
def test_tokens_of_a_transformer_are_counted_by_its_patches(config: dict[str, Any], vae: int, tokens: int) -> None:
    pipe = SimpleNamespace(transformer=part(config), vae=part({"latent_channels": vae}), vae_scale_factor=8)
    reference = SimpleNamespace(transformer=part({"dim": 3072, "patch_size": 1}), vae=None, vae_scale_factor=8)
    assert working(pipe, (512, 512), 1).step == pytest.approx(working(reference, (512, 512), 1).step * tokens / 4096)


class Filled:
    """A pipeline that fills texts up to 512 tokens."""

    def __init__(self, **parts: Any) -> None:
        self.vae, self.vae_scale_factor = None, 8
        vars(self).update(parts)

    def __call__(self, max_sequence_length: int = 512) -> None:
        """Draw."""


def of_class(name: str, **parts: Any) -> Any:
    """A pipeline whose class has this name."""
    return type(name, (Filled,), {})(**parts)


def transformer(heads: int, head: int, **more: Any) -> Any:
    return part({"num_attention_heads": heads, "attention_head_dim": head, "patch_size": 2, **more})


WIDE = transformer(24, 128)


@pytest.mark.parametrize(
    ("name", "network", "side", "mib"),
    [
        ("FluxPipeline", WIDE, 256, 136),
        ("FluxPipeline", WIDE, 512, 272),
        ("FluxPipeline", WIDE, 1024, 815),
        ("Flux2KleinPipeline", WIDE, 256, 197),
        ("Flux2KleinPipeline", WIDE, 768, 705),
        ("Flux2KleinPipeline", WIDE, 1024, 1149),
        ("ChromaPipeline", WIDE, 1024, 767),
        ("QwenImagePipeline", WIDE, 256, 54),
        ("QwenImagePipeline", WIDE, 1024, 733),
        ("ZImagePipeline", part({"dim": 3840, "patch_size": 2}), 256, 74),
        ("ZImagePipeline", part({"dim": 3840, "patch_size": 2}), 1024, 960),
        ("PixArtSigmaPipeline", transformer(16, 72), 256, 15),
        ("PixArtSigmaPipeline", transformer(16, 72), 1024, 217),
    ],
)
def test_a_step_takes_what_was_allocated_in_a_network_of_the_real_width(name: str, network: Any, side: int, mib: int) -> None:
    """Measured for one layer of each kind by what PyTorch had allocated at its widest, its texts filled up."""
    found = working(of_class(name, transformer=network), (side, side), 1).step / MIB
    assert 0.9 * mib <= found <= 1.3 * mib


@pytest.mark.parametrize(
    ("name", "network", "side", "mib"),
    [
        ("Flux2KleinPipeline", WIDE, 256, 326),
        ("Flux2KleinPipeline", WIDE, 512, 525),
        ("FluxPipeline", WIDE, 512, 420),
        ("FluxPipeline", WIDE, 768, 604),
        ("ZImagePipeline", part({"dim": 3840, "patch_size": 2}), 512, 343),
    ],
)
def test_what_has_to_be_free_is_what_a_process_grew_by_in_a_step(name: str, network: Any, side: int, mib: int) -> None:
    found = working(of_class(name, transformer=network), (side, side), 1).least / MIB
    assert 0.9 * mib <= found <= 1.3 * mib


QWEN_3 = {"hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32, "vocab_size": 151936}
T5 = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}


@pytest.mark.parametrize(
    ("kind", "config", "mib"),
    [
        ("T5EncoderModel", T5, 240),
        ("Qwen3Model", {**QWEN_3, "num_hidden_layers": 3}, 83),
        ("Qwen3Model", {**QWEN_3, "num_hidden_layers": 10}, 118),
        ("Qwen3ForCausalLM", {**QWEN_3, "num_hidden_layers": 3}, 317),
        ("Qwen3ForCausalLM", {**QWEN_3, "num_hidden_layers": 10}, 352),
    ],
)
def test_reading_a_text_takes_what_was_allocated_in_its_encoder(kind: str, config: dict[str, Any], mib: int) -> None:
    encoder = type(kind, (SimpleNamespace,), {})(config=SimpleNamespace(**config), dtype=FLOAT32)
    pipe = of_class("ZImagePipeline", text_encoder=encoder, transformer=part({"dim": 32, "patch_size": 2}))
    found = working(pipe, (64, 64), 1)
    assert 0.9 * mib <= found.text / MIB <= 1.3 * mib and found.least > found.text > found.step


def test_pictures_that_become_tokens_count_as_what_they_are_scaled_to() -> None:
    klein, edit = (of_class(name, transformer=WIDE) for name in ("Flux2KleinPipeline", "QwenImageEditPlusPipeline"))
    side = (1024, 1024)

    def more(pipe: Any, looked_at: list[tuple[int, int]]) -> float:
        per_pixel = working(pipe, (2048, 1024), 1).step - working(pipe, side, 1).step
        return (working(pipe, side, 1, looked_at).step - working(pipe, side, 1).step) / per_pixel

    assert more(klein, [(512, 512), (512, 512)]) == pytest.approx(0.5, rel=0.01)
    assert more(klein, [(4096, 4096)]) == pytest.approx(1, rel=0.01)
    assert more(edit, [(64, 64)] * 3) == pytest.approx(3, rel=0.01)


class Convolutional:
    """A UNet of this configuration whose largest weight has this many MiB."""

    def __init__(self, config: dict[str, Any], mib: int) -> None:
        self.config, self.dtype, self._bytes = SimpleNamespace(**config), FLOAT32, mib * MIB

    def parameters(self) -> list[Any]:
        """That weight, and one of another kind, which is larger."""
        sizes = ((4, self._bytes), (2, 2 * self._bytes))
        return [SimpleNamespace(ndim=ndim, numel=lambda size=size: size // 4, element_size=lambda: 4) for ndim, size in sizes]


def encoder(kind: str, **config: Any) -> Any:
    """A text encoder whose class has this name."""
    return type(kind, (SimpleNamespace,), {})(config=SimpleNamespace(**config), dtype=FLOAT32)


def clip(width: int) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 64, "vocab_size": 49408}
    return encoder("CLIPTextModel", **sizes, num_hidden_layers=2, max_position_embeddings=77)


def whole(name: str, **more: Any) -> Any:
    """A pipeline with all its parts."""
    return of_class(name, vae=part(VAE), **more)


SD15 = {**UNET, "down_block_types": ["CrossAttnDownBlock2D"] * 3}
SDXL = {"block_out_channels": [320, 640, 1280], "layers_per_block": 2, "down_block_types": ["DownBlock2D"]}
DRAWN = {
    "sd15": whole("StableDiffusionPipeline", unet=Convolutional(SD15, 112), text_encoder=clip(768)),
    "sdxl": whole(
        "StableDiffusionXLPipeline", unet=Convolutional(SDXL, 112), text_encoder=clip(768), text_encoder_2=clip(1280)
    ),
    "sd3": whole("StableDiffusion3Pipeline", transformer=transformer(24, 64), text_encoder_3=encoder("T5EncoderModel", **T5)),
    "cogview4": whole(
        "CogView4Pipeline",
        transformer=transformer(32, 128),
        text_encoder=encoder("GlmModel", **{**QWEN_3, "hidden_size": 4096, "intermediate_size": 13696}, num_hidden_layers=2),
    ),
    "flux": whole("FluxPipeline", transformer=WIDE, text_encoder=clip(768), text_encoder_2=encoder("T5EncoderModel", **T5)),
}


@pytest.mark.parametrize(
    ("name", "side", "batch", "mib"),
    [
        ("sd15", 64, 2, 152),
        ("sd15", 256, 2, 395),
        ("sdxl", 512, 2, 1028),
        ("sd3", 256, 2, 445),
        ("cogview4", 256, 1, 391),
        ("flux", 512, 1, 1079),
    ],
)
def test_a_whole_drawing_takes_what_its_process_was_seen_to_take(name: str, side: int, batch: int, mib: int) -> None:
    """Recorded with `python -m bench.picture_memory NAME --side SIDE`: AMD EPYC, one thread, PyTorch 2.13, diffusers 0.42.1."""
    found = working(DRAWN[name], (side, side), batch)
    assert 0.9 * mib <= max(found.parts(found.decode).values()) / MIB <= 1.3 * mib


@pytest.mark.parametrize(("part_of_it", "mib"), [("text", 400), ("step", 497)])
def test_the_parts_of_a_drawing_of_flux_take_what_they_were_seen_to_take(part_of_it: str, mib: int) -> None:
    """A step follows a text whose reading left something lying about; recorded as the whole drawings are."""
    assert 0.9 * mib <= working(DRAWN["flux"], (512, 512), 1).parts(0)[part_of_it] / MIB <= 1.3 * mib
