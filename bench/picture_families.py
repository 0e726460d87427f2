"""Pipelines of the widths of real models, with few layers and random weights: what `picture_memory` draws with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
import transformers
from transformers import CLIPTextConfig, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from tests.engines.diffusers.folders import qwen_tokenizer

TOKENIZER = Path(__file__).parents[1] / "tests/models/zoo/image/zoo-shapes/tokenizer"
LAYERS = 2


def vae(channels: int, **more: Any) -> Any:
    """The autoencoder of Stable Diffusion and of most that came after it."""
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=channels,
        sample_size=1024,
        **more,
    )


def plain_vae() -> Any:
    """That of FLUX, Z-Image and Lumina."""
    return vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)


def clip_tokenizer() -> Any:
    """That of the zoo; the words don't matter."""
    return CLIPTokenizer.from_pretrained(TOKENIZER)


def clip(width: int, *, is_projected: bool = False) -> Any:
    """CLIP's text encoder: 768 numbers wide (L), or 1280 (G)."""
    tokens = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        projection_dim=width,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if is_projected else transformers.CLIPTextModel
    return kind(config)


def t5_tokenizer() -> Any:
    """One token a letter."""
    letters = "abcdefghijklmnopqrstuvwxyz,"
    pieces = [(f"▁{letter}" if is_first else letter, -5.0) for letter in letters for is_first in (True, False)]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces], extra_ids=0)


def t5(kind: Any = T5EncoderModel, width: int = 4096, inner: int = 10240, heads: int = 64) -> Any:
    """T5 XXL."""
    return kind(
        T5Config(
            vocab_size=32128,
            d_model=width,
            d_kv=64,
            d_ff=inner,
            num_layers=1,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def qwen3(kind: Any, width: int, inner: int, layers: int) -> Any:
    """Qwen 3 of 4 or 8 billion numbers."""
    config = transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )
    return kind(config)


def gemma2() -> Any:
    """Gemma 2 of 2 billion numbers."""
    config = transformers.Gemma2Config(
        vocab_size=256000,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
    )
    return transformers.Gemma2Model(config)


def flow() -> Any:
    """The scheduler of what is trained by flow matching."""
    return diffusers.FlowMatchEulerDiscreteScheduler()


def _unet(**more: Any) -> Any:
    return diffusers.UNet2DConditionModel(sample_size=128, layers_per_block=2, **more)


def sd15() -> Any:
    """Stable Diffusion 1.5, whole."""
    return diffusers.StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip(768),
        tokenizer=clip_tokenizer(),
        unet=_unet(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    """Stable Diffusion XL, with one transformer layer in place of two and of ten."""
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip(768),
        text_encoder_2=clip(1280, is_projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=_unet(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=1,
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


def sd3() -> Any:
    """Stable Diffusion 3 medium."""
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            num_layers=LAYERS,
            num_attention_heads=24,
            caption_projection_dim=1536,
            joint_attention_dim=4096,
            pooled_projection_dim=2048,
            pos_embed_max_size=192,
        ),
        scheduler=flow(),
        vae=plain_vae(),
        text_encoder=clip(768, is_projected=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(1280, is_projected=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=t5_tokenizer(),
    )


def flux() -> Any:
    """FLUX.1."""
    return diffusers.FluxPipeline(
        scheduler=flow(),
        vae=plain_vae(),
        text_encoder=clip(768),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True),
    )


def klein() -> Any:
    """FLUX.2 Klein of 4 billion numbers: its text encoder is tapped in the layers 9, 18 and 27."""
    return diffusers.Flux2KleinPipeline(
        scheduler=flow(),
        vae=diffusers.AutoencoderKLFlux2(),
        text_encoder=qwen3(transformers.Qwen3ForCausalLM, 2560, 9728, 28),
        tokenizer=qwen_tokenizer(),
        transformer=diffusers.Flux2Transformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=128,
            num_attention_heads=24,
            joint_attention_dim=7680,
            guidance_embeds=False,
        ),
        is_distilled=True,
    )


def z_image() -> Any:
    """Z-Image."""
    transformer = diffusers.ZImageTransformer2DModel(n_layers=1, n_refiner_layers=1)
    for name in ("x_pad_token", "cap_pad_token"):  # left empty until weights are loaded
        getattr(transformer, name).data.zero_()
    return diffusers.ZImagePipeline(
        scheduler=flow(),
        vae=plain_vae(),
        text_encoder=qwen3(transformers.Qwen3Model, 2560, 9728, LAYERS),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
    )


def cogview4() -> Any:
    """CogView 4."""
    encoder = transformers.GlmModel(
        transformers.GlmConfig(
            vocab_size=151552,
            hidden_size=4096,
            intermediate_size=13696,
            num_hidden_layers=LAYERS,
            num_attention_heads=32,
            num_key_value_heads=2,
            head_dim=128,
            pad_token_id=0,
        )
    )
    return diffusers.CogView4Pipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=encoder,
        vae=plain_vae(),
        transformer=diffusers.CogView4Transformer2DModel(
            num_layers=1, num_attention_heads=32, attention_head_dim=128, rope_axes_dim=(256, 256)
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def sana() -> Any:
    """Sana of 1.6 billion numbers, with the autoencoder whose cells are 32 pixels wide."""
    return diffusers.SanaPipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=gemma2(),
        vae=diffusers.AutoencoderDC(
            encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6,
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(num_layers=LAYERS),
        scheduler=flow(),
    )


def lumina2() -> Any:
    """Lumina Image 2."""
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(num_layers=1, num_refiner_layers=1, cap_feat_dim=2304),
        scheduler=flow(),
        vae=plain_vae(),
        text_encoder=gemma2(),
        tokenizer=qwen_tokenizer(),
    )


def pixart() -> Any:
    """PixArt Sigma."""
    return diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=vae(4),
        transformer=diffusers.PixArtTransformer2DModel(num_layers=LAYERS, caption_channels=4096),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def auraflow() -> Any:
    """AuraFlow."""
    encoder = t5(transformers.UMT5EncoderModel, 2048, 5120, 32)
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=encoder,
        vae=vae(4),
        transformer=diffusers.AuraFlowTransformer2DModel(num_mmdit_layers=1, num_single_dit_layers=1, pos_embed_max_size=9216),
        scheduler=flow(),
    )


@contextmanager
def quickly() -> Iterator[None]:
    """Fill weights with few random numbers over and over: PyTorch's own take minutes for billions of them."""
    numbers = torch.randn(1 << 20).mul_(0.02)

    def fill(weight: Any, *_: Any, **__: Any) -> Any:
        with torch.no_grad():
            flat = weight.view(-1)
            for begin in range(0, len(flat), len(numbers)):
                flat[begin : begin + len(numbers)] = numbers[: len(flat) - begin]
        return weight

    with ExitStack() as stack:
        for name in ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_"):
            stack.enter_context(patch.object(torch.nn.init, name, fill))
        yield


FAMILIES: dict[str, Callable[[], Any]] = {
    build.__name__: build for build in (sd15, sdxl, sd3, flux, klein, z_image, cogview4, sana, lumina2, pixart, auraflow)
}
