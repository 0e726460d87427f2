"""A finished picture as PNG bytes, with what it was drawn with as text in it, as other programs write and read it."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from serow.engines.base import ImageRequest

_TEXT = "parameters"  # the name that Stable Diffusion's web pages look for


def png(picture: Image.Image, text: str = "") -> bytes:
    """The bytes; with `text` where there is one."""
    info = PngInfo()
    if text:
        info.add_itxt(_TEXT, text)
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=info, compress_level=1 if picture.width * picture.height > 1 << 18 else 6)
    return out.getvalue()


def described(request: ImageRequest, arguments: Mapping[str, Any], seed: int, size: tuple[int, int], model: str) -> str:
    """The description, and on the last line what it was drawn with."""
    lines = [request.prompt]
    if request.negative_prompt and "negative_prompt" in arguments:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in _values(request, arguments, seed, size, model)))
    return "\n".join(lines)


def _values(
    request: ImageRequest, arguments: Mapping[str, Any], seed: int, size: tuple[int, int], model: str
) -> Iterator[tuple[str, Any]]:
    if "num_inference_steps" in arguments:
        yield "Steps", arguments["num_inference_steps"]
    if request.scheduler:
        yield "Sampler", request.scheduler
    scale = next((arguments[name] for name in ("true_cfg_scale", "guidance_scale") if name in arguments), None)
    if scale is not None:
        yield "CFG scale", f"{scale:g}"
    yield "Seed", seed
    yield "Size", f"{size[0]}x{size[1]}"
    if model:
        yield "Model", model
    if request.images and request.strength is not None:
        yield "Denoising strength", f"{request.strength:g}"
    yield "Version", "Serow"
