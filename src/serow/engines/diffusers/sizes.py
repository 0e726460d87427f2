"""How large a pipeline draws, and how the pictures that it starts from are made to fit: scaled, never squeezed."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from serow.engines.base import ImageRequest
from serow.engines.diffusers.signature import parameters
from serow.options import LARGEST_SIDE, MOST_STEPS

_USUAL_AREA = 1 << 20  # pixels, of a picture that is started from when nothing else says how large
_LEAST = {"Flux2": 64}  # pixels, by the beginning of the class; elsewhere one cell of the grid
_LONGEST = 8  # times as long as wide: of a picture that FLUX.2 looks at

Size = tuple[int, int]


@dataclass(frozen=True)
class Canvas:
    """What a picture is drawn on: `size` None as the pipeline has it; the picture that it starts from, and its mask."""

    size: Size | None
    pictures: tuple[Image.Image, ...] = ()
    mask: Image.Image | None = None


def grid(pipe: Any) -> int:
    """Pixels that width and height must be a multiple of: of a latent, times the patch that latents are packed in."""
    processor, transformer = getattr(pipe, "image_processor", None), getattr(pipe, "transformer", None)
    latent = int(processor.config.vae_scale_factor) if processor is not None else 8
    patch = int(getattr(pipe, "patch_size", 0) or getattr(getattr(transformer, "config", None), "patch_size", None) or 1)
    own = int(getattr(pipe, "vae_scale_factor", None) or latent)
    return math.lcm(8, latent, own * patch)


def least(pipe: Any, step: int) -> int:
    """The fewest pixels of a side."""
    name = type(pipe).__name__
    return max(step, *(pixels for start, pixels in _LEAST.items() if name.startswith(start)), 0)


def canvas(pipe: Any, request: ImageRequest, warnings: list[str]) -> Canvas:
    """Size and pictures for a request, on the pipeline's grid; what is done to them is told in `warnings`."""
    step = grid(pipe)
    low = least(pipe, step)
    given = {"width": request.width, "height": request.height}
    sides = {name: _rounded(name, side, step, low, warnings) for name, side in given.items() if side is not None}
    if not request.images:
        return Canvas((sides["width"], sides["height"]) if len(sides) == 2 else _usual(pipe, sides))
    pictures = tuple(Image.open(io.BytesIO(each)).convert("RGB") for each in request.images)
    size = _size_for(pictures[0].size, sides, step, low)
    if "strength" not in parameters(pipe) and request.mask is None:
        return Canvas(size, tuple(_looked_at(each, low, warnings) for each in pictures))
    mask = None if request.mask is None else _mask(request.mask, pictures[0].size, warnings)
    _tell_fit(pictures[0].size, size, step, warnings)
    return Canvas(
        size,
        (ImageOps.fit(pictures[0], size, Image.Resampling.LANCZOS),),
        None if mask is None else ImageOps.fit(mask, size, Image.Resampling.BILINEAR),
    )


def arguments(pipe: Any, drawn_on: Canvas, request: ImageRequest, warnings: list[str]) -> dict[str, Any]:
    """A canvas as arguments of the pipeline, with steps and strength that leave something to draw."""
    names = parameters(pipe)
    found: dict[str, Any] = {}
    if drawn_on.size is not None and "width" in names:
        found |= {"width": drawn_on.size[0], "height": drawn_on.size[1]}
    if drawn_on.size is not None and "_auto_resize" in names:  # else it draws a size of its own choice, about as large
        found |= {"max_area": drawn_on.size[0] * drawn_on.size[1], "_auto_resize": False}
    if drawn_on.pictures:
        found["image"] = drawn_on.pictures[0] if len(drawn_on.pictures) == 1 else list(drawn_on.pictures)
    if drawn_on.mask is not None:
        found["mask_image"] = drawn_on.mask
    return {**found, **_steps(pipe, request, warnings)}


def as_asked(drawn_on: Canvas, given: Mapping[str, Any], picture: Image.Image, warnings: list[str]) -> Image.Image:
    """A picture of the size that a pipeline was given, which one with an autoencoder of another scale does not draw."""
    size = drawn_on.size
    if size is None or picture.size == size or "width" not in given:
        return picture
    drawn = "{}x{}".format(*picture.size)
    warnings.append("the picture was scaled to {}x{}: the model's autoencoder made it {}".format(*size, drawn))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _steps(pipe: Any, request: ImageRequest, warnings: list[str]) -> dict[str, Any]:
    """Steps and strength; a picture that it starts from is drawn with strength times steps of them, one at least."""
    names, found = parameters(pipe), dict[str, Any]()
    if request.steps is not None:
        found["num_inference_steps"] = request.steps
    if not request.images or "strength" not in names:
        return found
    strength = names["strength"].default if request.strength is None else request.strength
    steps = request.steps or names["num_inference_steps"].default
    if strength * MOST_STEPS < 1:
        warnings.append(f"strength {strength:g} was raised to {1 / MOST_STEPS:g}, which leaves one step to draw")
        strength = 1 / MOST_STEPS
    enough = next(count for count in range(steps, 2 * MOST_STEPS) if int(count * strength) >= 1)
    if enough != steps:
        warnings.append(f"steps were raised from {steps} to {enough}: with a strength of {strength:g} fewer leave none to draw")
        found["num_inference_steps"] = enough
    return {**found, "strength": strength} if request.strength is not None else found


def _rounded(name: str, side: int, step: int, low: int, warnings: list[str]) -> int:
    rounded = min(max(-(-low // step) * step, round(side / step) * step), LARGEST_SIDE // step * step)
    if rounded != side:
        least_of = f", {low} at least" if low > step else ""
        warnings.append(f"{name} {side} was rounded to {rounded}: the model draws in multiples of {step}{least_of}")
    return rounded


def own(pipe: Any) -> Size:
    """The size that a pipeline draws when it is told none; 0 where it does not say."""
    side = getattr(pipe, "default_sample_size", None)
    side = int(side) * int(getattr(pipe, "vae_scale_factor", 8)) if isinstance(side, int) else 0
    return side, side


def _usual(pipe: Any, sides: dict[str, int]) -> Size | None:
    """One given side and the other as long as the pipeline's own; None when none is given."""
    if not sides:
        return None
    other = own(pipe)[0] or next(iter(sides.values()))
    return sides.get("width", other), sides.get("height", other)


def _size_for(own: Size, sides: dict[str, int], step: int, low: int) -> Size:
    """The size for a picture: as asked; a side that is not, so that the shape stays; without any about its own."""
    if len(sides) == 2:
        return sides["width"], sides["height"]
    if sides:
        scale = sides["width"] / own[0] if "width" in sides else sides["height"] / own[1]
    else:
        scale = min(1.0, math.sqrt(_USUAL_AREA / (own[0] * own[1])), LARGEST_SIDE / max(own))
    most = LARGEST_SIDE // step * step
    width, height = (min(most, max(-(-low // step) * step, round(side * scale / step) * step)) for side in own)
    return sides.get("width", width), sides.get("height", height)


def _tell_fit(own: Size, size: Size, step: int, warnings: list[str]) -> None:
    if own == size:
        return
    scale = max(size[0] / own[0], size[1] / own[1])
    is_cut = max(own[0] * scale - size[0], own[1] * scale - size[1]) > step
    how = "scaled, and cut at its edges," if is_cut else "scaled"
    warnings.append(f"the image of {own[0]}x{own[1]} pixels was {how} to {size[0]}x{size[1]}")


def _looked_at(picture: Image.Image, low: int, warnings: list[str]) -> Image.Image:
    """A picture that the pipeline looks at and scales by itself; some take none that is too small, or too long."""
    if low <= 8:
        return picture
    width, height = picture.size
    cut = min(width, height * _LONGEST), min(height, width * _LONGEST)
    scale = max(1.0, low / min(cut))
    size = math.ceil(cut[0] * scale), math.ceil(cut[1] * scale)
    if size == picture.size:
        return picture
    warnings.append(f"the image of {width}x{height} pixels was scaled to {size[0]}x{size[1]}: the model takes no smaller one")
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _mask(data: bytes, size: Size, warnings: list[str]) -> Image.Image:
    mask = Image.open(io.BytesIO(data)).convert("L")
    if mask.size == size:
        return mask
    warnings.append("the mask of {}x{} pixels was scaled to the image's {}x{}".format(*mask.size, *size))
    return mask.resize(size, Image.Resampling.BILINEAR)
