"""What guidance and a negative prompt mean to a pipeline, told by the arguments that it takes and by its configuration.

| kind | whose | `guidance` is | the negative prompt |
|---|---|---|---|
| classic | Stable Diffusion, Z-Image, most others | `guidance_scale`; none up to 1 (Z-Image: 0) | counts with guidance |
| true | Qwen-Image | `true_cfg_scale`, which needs a negative prompt: " " where none is given | as above |
| embedded_true | FLUX.1 dev, Kontext | `guidance_scale`, which the model was taught | needs `true_cfg_scale` beside it |
| distilled_true | FLUX.1 schnell | without a negative prompt nothing, else `true_cfg_scale` | as above |
| embedded | FLUX.2, LCM | `guidance_scale`, which the model was taught | nothing |
| own | FLUX.2 Klein, not distilled | `guidance_scale`, against an empty prompt | nothing |
| ignored | whatever is distilled to draw without | nothing | nothing |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from serow.engines.base import ImageRequest
from serow.engines.diffusers.signature import parameters

Kind = Literal["classic", "true", "embedded_true", "distilled_true", "embedded", "own", "ignored"]

NO_NEGATIVE = " "  # what stands for none where guidance needs one
_TRUE_CFG = 2.0  # beside a guidance that the model was taught; more burns the picture
_SCALES = ("guidance_scale", "distilled_guidance_scale", "prior_guidance_scale")


@dataclass(frozen=True)
class Meaning:
    """The kind, the argument that `guidance` becomes, and the scale above which the negative prompt counts."""

    kind: Kind
    scale: str = ""
    threshold: float = 1.0
    default: float | None = None  # of the argument


def meaning(pipe: Any) -> Meaning:
    """What guidance is to a pipeline."""
    names = parameters(pipe)
    embeds, true = _embeds(pipe), names.get("true_cfg_scale")
    scale = next((name for name in _SCALES if name in names), "")
    default = names[scale].default if scale else None
    if true is not None and (default is None or not scale):
        return Meaning("true", "true_cfg_scale", default=true.default)
    if true is not None:
        return Meaning("distilled_true" if embeds is False else "embedded_true", scale, default=default)
    takes_negative, is_guided = "negative_prompt" in names, hasattr(type(pipe), "do_classifier_free_guidance")
    if not scale or _is_distilled(pipe) or (embeds is False and not takes_negative and not is_guided):
        return Meaning("ignored")
    if scale == "distilled_guidance_scale" and not embeds:
        return Meaning("ignored")
    if _is_consistency(pipe) or scale == "distilled_guidance_scale" or (not takes_negative and embeds is not False):
        return Meaning("embedded", scale, default=default)
    if not takes_negative:
        return Meaning("own", scale, default=default)
    return Meaning("classic", scale, 0.0 if type(pipe).__name__.startswith("ZImage") else 1.0, default)


def guidance_arguments(pipe: Any, request: ImageRequest, warnings: list[str]) -> dict[str, Any]:
    """The arguments of a request's guidance and negative prompt; what has no effect is told in `warnings`."""
    known = meaning(pipe)
    arguments = _ARGUMENTS[known.kind](known, request)
    if _embeds(pipe) and known.kind == "true" and "guidance_scale" in parameters(pipe):
        arguments["guidance_scale"] = 1.0 if request.guidance is None else request.guidance
    if request.guidance and request.guidance > 1 and not _scales(arguments):  # 0 and 1 are no guidance anyhow
        warnings.append('"guidance" had no effect: the model is made to draw without')
    if request.negative_prompt and "negative_prompt" not in arguments:
        warnings.append(f'"negative_prompt" had no effect: {_why(known)}')
    return arguments


def _scales(arguments: Mapping[str, Any]) -> bool:
    return any(name.endswith("_scale") for name in arguments)


def _why(known: Meaning) -> str:
    if known.kind in ("classic", "true"):
        return f"the guidance is too low, above {known.threshold:g} it counts"
    return "the model has no use for it"


def _classic(known: Meaning, request: ImageRequest) -> dict[str, Any]:
    scale = known.default if request.guidance is None else request.guidance
    is_guided = scale is None or scale > known.threshold
    return {
        **({known.scale: request.guidance} if request.guidance is not None else {}),
        **({"negative_prompt": request.negative_prompt} if request.negative_prompt and is_guided else {}),
    }


def _true(known: Meaning, request: ImageRequest) -> dict[str, Any]:
    scale = known.default if request.guidance is None else request.guidance
    assert scale is not None
    if scale <= known.threshold:
        return {known.scale: scale}
    return {known.scale: scale, "negative_prompt": request.negative_prompt or NO_NEGATIVE}


def _embedded_true(known: Meaning, request: ImageRequest) -> dict[str, Any]:
    away = {"true_cfg_scale": _TRUE_CFG, "negative_prompt": request.negative_prompt} if request.negative_prompt else {}
    return {**_embedded(known, request), **away}


def _distilled_true(_: Meaning, request: ImageRequest) -> dict[str, Any]:
    if not request.negative_prompt:
        return {}
    scale = request.guidance if request.guidance and request.guidance > 1 else _TRUE_CFG
    return {"true_cfg_scale": scale, "negative_prompt": request.negative_prompt}


def _embedded(known: Meaning, request: ImageRequest) -> dict[str, Any]:
    return {} if request.guidance is None else {known.scale: request.guidance}


def _ignored(_: Meaning, request: ImageRequest) -> dict[str, Any]:
    return {}


_ARGUMENTS = {
    "classic": _classic,
    "true": _true,
    "embedded_true": _embedded_true,
    "distilled_true": _distilled_true,
    "embedded": _embedded,
    "own": _embedded,
    "ignored": _ignored,
}


def _embeds(pipe: Any) -> bool | None:
    """Whether the model takes guidance as a number of its own; None where its configuration does not say."""
    transformer = getattr(pipe, "transformer", None)
    value = None if transformer is None else getattr(transformer.config, "guidance_embeds", None)
    return None if value is None else bool(value)


def _is_consistency(pipe: Any) -> bool:
    """Whether a UNet was taught guidance, as those of latent consistency models are."""
    unet = getattr(pipe, "unet", None)
    return unet is not None and bool(getattr(unet.config, "time_cond_proj_dim", None))


def _is_distilled(pipe: Any) -> bool:
    return bool(getattr(getattr(pipe, "config", None), "is_distilled", False))
