"""A diffusers pipeline that is asked for one picture. Imported in the child only: torch takes seconds.

Seen in diffusers 0.42: it checks little, cuts prompts in silence, and skips the rest of a picture when interrupted; so sizes
and prompts are checked here, and a drawing is abandoned by an exception of our own.
"""

import inspect
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from serow.engines.base import ImageRequest
from serow.engines.diffusers.memory import hold_to_free_memory, is_out_of_memory, shortage
from serow.errors import LoadError, RequestError

OnStep = Callable[[int, int], None]  # steps done, steps in all
_LARGEST_SIDE = 4096  # pixels
_USUAL_SIDE = 1024  # pixels, of a picture to start from when nothing else says how large
_NEEDED = {"prompt", "num_inference_steps", "generator", "callback_on_step_end"}


class Pipeline:
    """A text-to-image pipeline in memory. One call at a time: its scheduler holds state."""

    def __init__(self, pipe: Any, device: str) -> None:
        self._device = device
        self._free = 0
        self._from_text = pipe
        self._from_image: Any = pipe if "image" in _parameters(pipe) else None
        if not _parameters(pipe).keys() >= _NEEDED:
            raise LoadError(f"{type(pipe).__name__} is not a pipeline that draws from text step by step")

    def draw(self, request: ImageRequest, on_step: OnStep) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        """Draw; returns the PNG bytes of each picture, and warnings. What `on_step` raises ends it between two steps.

        Raises RequestError.
        """
        _refuse_what_is_to_come(request)
        count = len(request.seeds)
        found = [
            self._draw(request, seed, lambda done, total, before=number: on_step(before * total + done, count * total))  # type: ignore[misc]
            for number, seed in enumerate(request.seeds)
        ]
        return tuple(image for image, _ in found), found[0][1]

    def _draw(self, request: ImageRequest, seed: int, on_step: OnStep) -> tuple[bytes, tuple[str, ...]]:
        pipe = self._for_image() if request.images else self._from_text
        warnings: list[str] = []
        arguments = {
            **self._size_arguments(pipe, request, warnings),
            **_guidance_arguments(_parameters(pipe), request, warnings),
            "prompt": request.prompt,
            "callback_on_step_end": _callback(on_step),
            "generator": _generator(seed),
        }
        if request.steps is not None:
            arguments["num_inference_steps"] = request.steps
        warnings += _cut_prompt(pipe, request.prompt)
        self._free = hold_to_free_memory(self._device)
        with torch.inference_mode():
            result = pipe(**arguments)
        if "negative_prompt" in arguments and not _uses_negative_prompt(pipe, arguments):
            warnings.append('"negative_prompt" had no effect: the guidance is too low')
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            warnings.append("the model's own safety checker blackened the picture")
        return _png(result.images[0]), tuple(warnings)

    def explain_shortage(self, error: BaseException) -> str:
        """A sentence with the numbers when an exception says that memory did not suffice, else ""."""
        if not is_out_of_memory(error):
            return ""
        return f"the picture needs {shortage(error, self._free)}: ask for a smaller one"

    def _for_image(self) -> Any:
        """The pipeline that starts from a picture, sharing all weights; raises RequestError when there is none."""
        if self._from_image is None:
            from diffusers import AutoPipelineForImage2Image  # imports every kind of pipeline: half a second

            try:
                self._from_image = AutoPipelineForImage2Image.from_pipe(self._from_text)
            except ValueError:
                raise RequestError("this model does not start from images") from None
            self._from_image.set_progress_bar_config(disable=True)
        return self._from_image

    def _size_arguments(self, pipe: Any, request: ImageRequest, warnings: list[str]) -> dict[str, Any]:
        """Width, height and the picture to start from, on the grid that the pipeline draws in."""
        step = _grid(pipe)
        sides = {"width": request.width, "height": request.height}
        given = {name: _rounded(name, side, step, warnings) for name, side in sides.items() if side is not None}
        if not request.images:
            return given
        if len(request.images) > 1:
            raise RequestError("this model starts from one image at most")
        picture = Image.open(io.BytesIO(request.images[0]))
        own = _own_size(picture.size, step)
        size = given.get("width", own[0]), given.get("height", own[1])
        if not given and size != picture.size:
            warnings.append("the image of {}x{} pixels was scaled to {}x{}".format(*picture.size, *size))
        names = _parameters(pipe)
        sized = {"width": size[0], "height": size[1]} if "width" in names else {}
        return {"image": picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), **sized}


def _parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(pipe).__call__).parameters)


def _refuse_what_is_to_come(request: ImageRequest) -> None:
    """Name what no pipeline is asked for yet."""
    for name in ("strength", "mask", "preview", "adapters"):
        if getattr(request, name):
            raise RequestError(f'option "{name}" is not supported yet')


def _generator(seed: int) -> torch.Generator:
    """Numbers of the CPU, which are the same on every device."""
    return torch.Generator("cpu").manual_seed(seed)


def _callback(on_step: OnStep) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def on_step_end(pipe: Any, step: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, pipe.num_timesteps)
        return kwargs

    return on_step_end


def _grid(pipe: Any) -> int:
    """Pixels that width and height must be a multiple of: of a latent, times the patch that latents are packed in."""
    latent = int(pipe.image_processor.config.vae_scale_factor) if hasattr(pipe, "image_processor") else 8
    return math.lcm(8, latent * int(getattr(pipe, "patch_size", 1)))


def _rounded(name: str, side: int, step: int, warnings: list[str]) -> int:
    rounded = min(max(step, round(side / step) * step), _LARGEST_SIDE // step * step)
    if rounded != side:
        warnings.append(f"{name} {side} was rounded to {rounded}: the model draws in multiples of {step}")
    return rounded


def _own_size(size: tuple[int, int], step: int) -> tuple[int, int]:
    """A picture's size, made smaller where it is large, on the grid."""
    scale = min(1.0, _USUAL_SIDE / max(size))
    width, height = (max(step, round(side * scale / step) * step) for side in size)
    return width, height


def _guidance_arguments(parameters: dict[str, inspect.Parameter], request: ImageRequest, warnings: list[str]) -> dict[str, Any]:
    """Guidance under the pipeline's name for it, and the negative prompt.

    Some pipelines keep `guidance_scale` for distilled models, default None, and call the usual kind `true_cfg_scale`.
    """
    found: dict[str, Any] = {}
    named = parameters.get("guidance_scale")
    is_true_cfg = "true_cfg_scale" in parameters and (named is None or named.default is None)
    name = "true_cfg_scale" if is_true_cfg else "guidance_scale"
    if request.guidance is not None:
        if name in parameters:
            found[name] = request.guidance
        else:
            warnings.append('"guidance" was ignored: the model has no use for it')
    if request.negative_prompt:
        if "negative_prompt" in parameters:
            found["negative_prompt"] = request.negative_prompt
        else:
            warnings.append('"negative_prompt" was ignored: the model has no use for it')
    elif is_true_cfg and request.guidance is not None:
        found["negative_prompt"] = " "  # without one such a pipeline leaves guidance out
    return found


def _uses_negative_prompt(pipe: Any, arguments: dict[str, Any]) -> bool:
    """Whether the picture that was just drawn was led away from the negative prompt."""
    true_cfg = _parameters(pipe).get("true_cfg_scale")
    if true_cfg is not None:
        return bool(arguments.get("true_cfg_scale", true_cfg.default) > 1)
    return bool(getattr(pipe, "do_classifier_free_guidance", True))


def _cut_prompt(pipe: Any, prompt: str) -> list[str]:
    """A warning when the pipeline will read only the beginning of the prompt."""
    names = ("tokenizer_3", "tokenizer_2", "tokenizer")  # the last one reads the longest prompts
    tokenizer = next((found for name in names if (found := getattr(pipe, name, None)) is not None), None)
    if tokenizer is None:
        return []
    longest = _parameters(pipe).get("max_sequence_length")
    limit = longest.default if longest is not None and longest.default else tokenizer.model_max_length
    count = len(tokenizer(prompt, truncation=False).input_ids)
    return [f"the prompt has {count} tokens, the model reads the first {limit}"] if count > limit else []


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
