"""Checks of what stands between a pipeline and PyTorch, on small tensors: `python parts_program.py`.

Run as a program of its own: torch is imported here, and in no process that tests run in. Prints the outcome of each check as
JSON by its name.
"""

import io
import json
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from serow.engines.base import ImageRequest
from serow.engines.diffusers import decoding, installed, pieces, preview
from serow.engines.diffusers.decoding import BrokenPicture, Decoding
from serow.engines.diffusers.encoding import Encoding, plain_texts, unread_weights
from serow.engines.diffusers.leaving import Abandoned, Leaving
from serow.engines.diffusers.pipeline import Pipeline
from tests.engines.diffusers import folders
from tests.pictures import SHAPES


class Vae(torch.nn.Module):  # type: ignore[misc]
    """An autoencoder that answers with what `pixels` makes of its type, and may have too little memory for a whole."""

    def __init__(self, pixels: Callable[[torch.dtype], torch.Tensor], *, fits: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))
        self._pixels, self._fits = pixels, fits
        self.use_tiling = False
        self.calls: list[tuple[torch.dtype, bool]] = []

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def enable_tiling(self) -> None:
        self.use_tiling = True

    def disable_tiling(self) -> None:
        self.use_tiling = False

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor]:
        self.calls.append((self.dtype, self.use_tiling))
        if not self._fits and not self.use_tiling:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9000 bytes.")
        return (self._pixels(self.dtype),)


GOOD = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
LATENTS = torch.zeros(1, 4, 2, 2, dtype=torch.float16)


def overflowing(dtype: torch.dtype) -> torch.Tensor:
    """Numbers that are none, but in float32."""
    return GOOD if dtype == torch.float32 else GOOD.half() * float("nan")


def refused(vae: Vae, latents: torch.Tensor = LATENTS) -> str:
    """What a decode is refused with."""
    try:
        Decoding(vae)(latents)
    except BrokenPicture as error:
        return str(error)
    return ""


def check_overflow_is_decoded_once_more_in_float32() -> None:
    vae = Vae(overflowing)
    assert torch.equal(Decoding(vae)(LATENTS)[0], GOOD)
    assert [dtype for dtype, _ in vae.calls] == [torch.float16, torch.float32] and vae.dtype == torch.float16


def check_what_is_no_picture_in_float32_either_is_refused() -> None:
    vae = Vae(lambda _: GOOD * float("inf"))
    assert "numbers that are none" in refused(vae) and len(vae.calls) == 2
    assert "one flat colour" in refused(Vae(lambda _: torch.zeros(1, 3, 4, 4)))
    assert "one flat colour" in refused(Vae(lambda _: GOOD.abs() + 2))  # white to the eye
    nothing = Vae(lambda _: GOOD)
    assert "numbers that are none" in refused(nothing, LATENTS * float("nan")) and not nothing.calls


def check_a_batch_with_one_flat_picture_is_refused() -> None:
    assert "one flat colour" in refused(Vae(lambda _: torch.cat([GOOD, torch.zeros_like(GOOD)])))


def check_each_picture_of_a_batch_is_decoded_by_itself() -> None:
    vae = Vae(lambda _: GOOD + 0.0)
    found = Decoding(vae)(torch.zeros(3, 4, 2, 2))
    assert torch.equal(found[0], torch.cat([GOOD] * 3)) and len(vae.calls) == 3


def check_a_decode_that_lacks_memory_is_done_in_tiles_and_told() -> None:
    vae = Vae(lambda _: GOOD, fits=False)
    made = Decoding(vae)
    assert torch.equal(made(LATENTS)[0], GOOD) and made.warnings and not vae.use_tiling
    assert [is_tiled for _, is_tiled in vae.calls] == [False, True]


def check_a_flat_picture_without_an_autoencoder_is_refused() -> None:
    decoding.check_flat(Image.new("RGB", (1, 1), "black"))
    mixed = Image.new("RGB", (2, 1), "black")
    mixed.putpixel((0, 0), (0, 0, 9))
    decoding.check_flat(mixed)
    try:
        decoding.check_flat(Image.new("RGB", (2, 2), "black"))
    except BrokenPicture:
        return
    raise AssertionError("a black picture went through")


def check_pieces_are_equal_to_the_whole() -> None:
    seeded = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=seeded)

    query, key, value, mask = some(1, 2, 300, 16), some(1, 2, 300, 16), some(1, 2, 300, 16), some(300, 300)
    pixels, wide, narrow, bias, eight = some(2, 8, 65, 40), some(12, 8, 3, 3), some(12, 8, 1, 1), some(12), some(8)
    tokens, flat = some(2, 4000, 8), some(12, 8)

    def results() -> list[torch.Tensor]:
        attention, conv2d = functional.scaled_dot_product_attention, functional.conv2d
        return [
            attention(query, key, value),
            attention(query, key, value, mask),
            conv2d(pixels, wide, bias, (1, 1), (1, 1)),
            conv2d(pixels, narrow, bias),
            conv2d(pixels, wide, bias, 2, 1),
            conv2d(pixels, wide, None, 1, "same"),
            functional.group_norm(pixels, 4, eight, eight, 1e-6),
            functional.group_norm(pixels, 2),
            functional.silu(pixels),
            functional.interpolate(pixels, scale_factor=2.0, mode="nearest"),
            functional.linear(tokens, flat, bias),
            functional.linear(tokens[0, 0], flat),
            functional.gelu(tokens, approximate="tanh"),
            functional.layer_norm(tokens, (8,), eight, eight),
        ]

    whole = results()
    pieces.LONGEST_PIECE, pieces.LARGEST_PIECE = 100_000, 5_000  # type: ignore[attr-defined]
    calls: list[torch.nn.Module] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda module, _: calls.append(module))
    own = functional.conv2d
    with pieces.in_pieces():
        found = results()
    hook.remove()
    assert functional.conv2d is own
    for one, other in zip(whole, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert len(calls) > 100


def check_who_leaves_ends_the_drawing_before_its_next_module_and_no_later_one() -> None:
    leaving, module = Leaving(), torch.nn.Identity()
    module(LATENTS)
    leaving.leave()
    try:
        module(LATENTS)
    except Abandoned:
        leaving.over()
        module(LATENTS)
        late = Leaving()
        late.over()
        late.leave()
        module(LATENTS)
        return
    raise AssertionError("the module ran")


def check_packed_latents_are_unpacked_for_a_preview() -> None:
    cells = torch.arange(2 * 4 * 6, dtype=torch.float32).view(1, 2, 4, 6)
    packed = cells.view(1, 2, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 6, 8)
    vae: Any = SimpleNamespace(config=SimpleNamespace(latent_channels=2, scaling_factor=0.5, shift_factor=1.0))
    pipe = SimpleNamespace(vae=vae, vae_scale_factor=8)
    for given in (packed, cells, cells.unsqueeze(2)):
        found = preview.latents_of(pipe, given, (48, 32))
        assert found is not None and torch.equal(found, cells * 2 + 1)
    assert preview.latents_of(pipe, packed, (64, 64)) is None


def check_a_preview_of_flux_2_is_what_its_decoder_gets() -> None:
    pipe = folders.klein(None)
    norm = pipe.vae.bn
    norm.running_mean.copy_(torch.linspace(-1, 1, 16))
    norm.running_var.copy_(torch.linspace(0.5, 2, 16))
    decoded, shown = list[torch.Tensor](), list[torch.Tensor | None]()

    def decode(latents: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        decoded.append(latents)
        return (torch.zeros(1, 3, 64, 128),)

    def look(pipe: Any, step: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        shown.append(preview.latents_of(pipe, kwargs["latents"], (128, 64)))
        return kwargs

    pipe.vae.decode = decode
    pipe(prompt="a", width=128, height=64, num_inference_steps=2, callback_on_step_end=look)
    assert shown[-1] is not None
    torch.testing.assert_close(shown[-1], decoded[0])


def pictures_of(pipeline: Pipeline, *seeds: int, size: int = 32) -> list[bytes]:
    """PNG bytes."""
    request = ImageRequest("a (red:1.2) circle", seeds, size, size, 3, guidance=3.0)
    return list(pipeline.draw(request, lambda *_: None)[0])


def check_the_same_seed_draws_the_same_picture_whatever_the_batch() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(SHAPES / "tokenizer")
    shapes = StableDiffusionPipeline.from_pretrained(SHAPES, local_files_only=True, use_safetensors=True)
    made = (folders.stable_diffusion, stable_diffusion_xl, folders.flux, folders.klein, folders.z_image, folders.qwen_image)
    torch.manual_seed(1)
    for pipe in (shapes, *(build(tokenizer) for build in made)):
        pipe.set_progress_bar_config(disable=True)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # as one that is loaded is; T5 drops numbers by lot until then
        pipeline, size, seeds = Pipeline(pipe, "cpu"), 64, (5, 6, 7, 8, 9, 10)
        calls = list[int]()
        network = getattr(pipe, "unet", None) or pipe.transformer
        network.register_forward_pre_hook(lambda _, given, calls=calls: calls.append(1))
        alone = [pictures_of(pipeline, seed, size=size)[0] for seed in seeds]
        each = len(calls)
        together = pictures_of(pipeline, *seeds, size=size)
        assert together == alone, type(pipe).__name__
        assert len(set(alone)) == len(seeds)
        if pipeline._together._unlike:
            continue
        assert len(calls) - each == each * 2 // len(seeds), type(pipe).__name__  # a batch of four, and one of two


def check_an_autoencoder_of_another_scale_draws_the_size_that_was_asked_for() -> None:
    pipe = folders.stable_diffusion(CLIPTokenizer.from_pretrained(SHAPES / "tokenizer"))
    pipe.set_progress_bar_config(disable=True)
    decode = pipe.vae.decode
    pipe.vae.decode = lambda *args, **kwargs: (functional.interpolate(decode(*args, **kwargs)[0], scale_factor=2.0),)
    (image,), warnings = Pipeline(pipe, "cpu").draw(ImageRequest("a", (1,), 32, 32, 1, guidance=3.0), lambda *_: None)
    assert Image.open(io.BytesIO(image)).size == (32, 32)
    assert warnings == ("the picture was scaled to 32x32: the model's autoencoder made it 64x64",)


def check_schedulers_take_every_step_of_a_model_without_a_last_signal() -> None:
    pipe = folders.stable_diffusion(CLIPTokenizer.from_pretrained(SHAPES / "tokenizer"))
    pipe.scheduler = DDIMScheduler.from_pretrained(SHAPES / "scheduler")
    pipe.set_progress_bar_config(disable=True)
    pipeline, dot = Pipeline(pipe, "cpu"), io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(dot, "PNG")
    for name in ("DPM++ 2M Karras", "DPM++ 2M SDE Karras", "UniPC Karras", "Euler Karras"):
        whole = ImageRequest("a red circle", (1,), 32, 32, 30, guidance=4.0, scheduler=name)
        for request, expected in ((whole, 30), (replace(whole, images=(dot.getvalue(),), strength=0.5), 15)):
            steps: list[int] = []
            pipeline.draw(request, lambda completed, *_, steps=steps: steps.append(completed))
            assert steps[-1] == expected, name


def check_a_batch_that_would_change_its_pictures_is_drawn_in_turn() -> None:
    pipe = folders.stable_diffusion(CLIPTokenizer.from_pretrained(SHAPES / "tokenizer"))
    pipe.set_progress_bar_config(disable=True)
    forward = pipe.unet.forward
    pipe.unet.forward = lambda sample, *args, **kwargs: (forward(sample, *args, **kwargs)[0] + len(sample) * 1e-6,)
    pipeline = Pipeline(pipe, "cpu")
    steps: list[int] = []
    request = ImageRequest("a", (1, 2), 32, 32, 3, guidance=3.0)
    images, _ = pipeline.draw(request, lambda completed, *_: steps.append(completed))
    assert list(images) == [pipeline.draw(replace(request, seeds=(seed,)), lambda *_: None)[0][0] for seed in (1, 2)]
    assert steps == list(range(7)) and pipeline._together._unlike


def check_the_sources_name_every_class_that_the_packages_have() -> None:
    ends = "Model", "Tokenizer", "TokenizerFast", "Processor", "Scheduler", "Pipeline", "ForConditionalGeneration"
    for package in (diffusers, transformers):
        names = [name for name in dir(package) if name.endswith(ends)]
        text = b"".join(path.read_bytes() for path in installed._sources(package.__name__))
        named = set(re.findall(rb'"(?=(\w+)")', text))
        assert len(names) > 300 and not [name for name in names if name.removesuffix("Fast").encode() not in named]


def text_pipeline(build: Callable[[Any], Any]) -> tuple[Any, Any, list[int]]:
    """A tiny pipeline, its own `encode_prompt`, and the numbers of tokens that its first text encoder has read since."""
    pipe, read = build(CLIPTokenizer.from_pretrained(SHAPES / "tokenizer")), list[int]()
    own = pipe.encode_prompt
    Encoding(pipe)
    pipe.text_encoder.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
    return pipe, own, read


def check_a_weighted_piece_lies_so_many_times_as_far_from_an_empty_description() -> None:
    for build in (folders.stable_diffusion, stable_diffusion_xl):
        pipe, own, _ = text_pipeline(build)
        given = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True, "negative_prompt": "[b]"}
        with torch.inference_mode():
            whole, away, *pooled = own("a red circle", **{**given, "negative_prompt": "b"})
            empty, nothing, *_ = own("", **{**given, "negative_prompt": ""})
            for weight in (0.0, 1.5, -1.0):
                found, less, *others = pipe.encode_prompt(f"a (red:{weight}) circle", **given)
                expected = whole.clone()
                expected[:, 2] = empty[:, 2] + (whole[:, 2] - empty[:, 2]) * weight
                torch.testing.assert_close(found, expected)
                assert torch.equal(found[:, [0, 1, *range(3, 77)]], whole[:, [0, 1, *range(3, 77)]])
                torch.testing.assert_close(less[:, 1], nothing[:, 1] + (away[:, 1] - nothing[:, 1]) / 1.1)
                assert all(map(torch.equal, others, pooled))
            for text in ("a red circle", "a (red:1) circle"):
                assert torch.equal(pipe.encode_prompt(text, **given)[0], whole)


def check_a_description_is_read_once_and_again_when_adapters_change() -> None:
    pipe, own, read = text_pipeline(folders.stable_diffusion)
    with torch.inference_mode():
        first = pipe.encode_prompt("a", "cpu", 1, True)
        first[0].zero_()  # as a pipeline might
        assert torch.equal(pipe.encode_prompt("a", "cpu", 1, True)[0], own("a", "cpu", 1, True)[0])
        assert len(read) == 4
        pipe.encode_prompt.forget()
        pipe.encode_prompt("a", "cpu", 1, True)
        assert len(read) == 6
        for number in range(9):
            pipe.encode_prompt(str(number), "cpu", 1, True)
        assert len(pipe.encode_prompt._remembered) == 4


def check_weights_that_the_encoder_does_not_know_are_told() -> None:
    flux: Any = SimpleNamespace(text_encoder=SimpleNamespace(), encode_prompt=print)
    for pipe, told in ((flux, 2), (SimpleNamespace(text_encoder=None), 2)):
        texts = {"prompt": "a (red:1.4) circle", "negative_prompt": "(b:2)"}
        assert plain_texts(pipe, texts) == texts
        assert len(unread_weights(pipe, texts)) == told and not unread_weights(pipe, {"prompt": "a (red) circle"})


def stable_diffusion_xl(tokenizer: Any) -> Any:
    """Stable Diffusion XL: a UNet that is told sizes, two CLIPs, of which one has a summary."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=[8, 8],
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
    )
    second = folders.clip(tokenizer)
    second.config.projection_dim = 16
    return StableDiffusionXLPipeline(
        vae=folders.vae(4),
        text_encoder=folders.clip(tokenizer),
        text_encoder_2=CLIPTextModelWithProjection(second.config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False),
    )


def outcome(check: Callable[[], None]) -> str:
    """What went wrong, "" for nothing."""
    try:
        check()
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        return traceback.format_exc()
    return ""


def main() -> None:
    """Run every check."""
    checks = {name: each for name, each in globals().items() if name.startswith("check_")}
    json.dump({name: outcome(check) for name, check in checks.items()}, sys.stdout)


if __name__ == "__main__":
    main()
