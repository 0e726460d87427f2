"""Tiny pipelines with random weights, as their diffusers classes save them: `python image_folders.py CLIP_TOKENIZER OUT`.

Run as a program of its own: torch is imported here, and in no process that tests run in.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
_VAE = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "norm_num_groups": 4}


def vae(latent_channels: int, **more: Any) -> Any:
    """A variational autoencoder of factor 2."""
    return AutoencoderKL(block_out_channels=[8, 8], latent_channels=latent_channels, sample_size=32, **_VAE, **more)


def clip(tokenizer: Any, kind: Any = CLIPTextModel, **more: Any) -> Any:
    """CLIP's text encoder."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )
    return kind(config)


def qwen_tokenizer() -> Any:
    """One token a byte, Qwen's special tokens, Qwen's template for chats."""
    alphabet = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 324))]
    tokenizer = Qwen2Tokenizer(vocab={text: number for number, text in enumerate(alphabet)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = _CHAT
    return tokenizer


def unet(**more: Any) -> Any:
    """A UNet of two blocks."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=[8, 8],
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        **more,
    )


def stable_diffusion(tokenizer: Any) -> Any:
    """Stable Diffusion: UNet, one CLIP."""
    return _stable_diffusion(tokenizer, clip(tokenizer), unet(cross_attention_dim=16, attention_head_dim=2))


def stable_diffusion_2(tokenizer: Any) -> Any:
    """Stable Diffusion 2: attention with linear layers, OpenCLIP's activation."""
    drawn = unet(cross_attention_dim=16, attention_head_dim=[2, 4], use_linear_projection=True)
    return _stable_diffusion(tokenizer, clip(tokenizer, hidden_act="gelu"), drawn)


def stable_diffusion_xl(tokenizer: Any) -> Any:
    """Stable Diffusion XL: two text encoders, of which the second has a projection."""
    drawn = unet(
        cross_attention_dim=32,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2],
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip(tokenizer),
        text_encoder_2=clip(tokenizer, CLIPTextModelWithProjection, hidden_act="gelu", projection_dim=16),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=drawn,
        scheduler=EulerDiscreteScheduler(),
    )


def _stable_diffusion(tokenizer: Any, encoder: Any, drawn: Any) -> Any:
    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=drawn,
        scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux(tokenizer: Any) -> Any:
    """FLUX: transformer, CLIP and T5."""
    letters = [
        (f"▁{letter}" if is_first else letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz" for is_first in (True, False)
    ]
    t5 = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1)
    )
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=[4, 4, 8],
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(4, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=t5,
        transformer=transformer,
    )


def qwen3(tokenizer: Any, num_layers: int) -> Any:
    """The settings of Qwen3, rows of 32 numbers: a group of quantized ones."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        bos_token_id=None,
        eos_token_id=None,
    )


def z_image(_: Any) -> Any:
    """Z-Image: transformer, Qwen3."""
    tokenizer = qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32, axes_dims=[4, 4, 8]
    )
    for name in ("x_pad_token", "cap_pad_token"):  # left empty until weights are loaded
        torch.nn.init.zeros_(getattr(transformer, name))
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(4, shift_factor=0.0),
        text_encoder=Qwen3Model(qwen3(tokenizer, 2)),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def klein(_: Any) -> Any:
    """FLUX.2 Klein: transformer, Qwen3 of three tapped layers, distilled."""
    tokenizer = qwen_tokenizer()
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=32,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLFlux2(block_out_channels=[8, 8], latent_channels=4, sample_size=32, **_VAE),
        text_encoder=Qwen3ForCausalLM(qwen3(tokenizer, 28)),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    )


def qwen_image(_: Any) -> Any:
    """Qwen-Image: transformer, Qwen2.5-VL, a video autoencoder."""
    tokenizer = qwen_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
    )


def main(tokenizer: str, out: str) -> None:
    """Save every pipeline to a folder of its name."""
    torch.manual_seed(1)
    shared = CLIPTokenizer.from_pretrained(tokenizer)
    for build in (stable_diffusion, stable_diffusion_2, stable_diffusion_xl, flux, z_image, klein, qwen_image):
        build(shared).save_pretrained(Path(out) / build.__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
