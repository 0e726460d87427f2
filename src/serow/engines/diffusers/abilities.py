"""What a pipeline can draw from: a text, a picture, several, a picture with a mask. By the name of its class and its arguments.

The form of a pipeline that another task needs is made of the same weights, where diffusers has one.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from serow.engines.base import ImageRequest
from serow.engines.diffusers.guidance import meaning
from serow.engines.diffusers.installed import lacking
from serow.engines.diffusers.signature import parameters
from serow.engines.diffusers.stand_in import other_form, stand_in
from serow.errors import RequestError
from serow.picture_schedulers import fitting
from serow.store.picture_defaults import Hints
from serow.store.show import PictureAbilities, ShowResponse

_NEEDS_PICTURE = re.compile("Img2Img|Inpaint|Fill|Edit|I2I|Pix2Pix|Upscale|Depth2Img|ControlNet|Adapter|Refiner|Layered")
_NEEDS_MASK = re.compile("Inpaint|Fill")
_SEVERAL = {  # classes that look at more than one picture, and at how many
    "Flux2Pipeline": 10,
    "Flux2KleinPipeline": 10,
    "Flux2KleinKVPipeline": 10,
    "QwenImageEditPlusPipeline": 3,
    "ZImageOmniPipeline": 3,
}
_FORMS = {  # what AutoPipeline does not know
    ("FluxKontextPipeline", "mask"): "FluxKontextInpaintPipeline",
    ("Flux2KleinPipeline", "mask"): "Flux2KleinInpaintPipeline",
    ("ChromaPipeline", "mask"): "ChromaInpaintPipeline",
    ("ChromaPipeline", "picture"): "ChromaImg2ImgPipeline",
    ("KolorsPipeline", "picture"): "KolorsImg2ImgPipeline",
    ("SanaSprintPipeline", "picture"): "SanaSprintImg2ImgPipeline",
}


class Forms:
    """A pipeline and the forms of it that start from a picture, or draw into a mask; made when they are first asked for.

    `make` makes one for a task, or returns None.
    """

    def __init__(self, pipe: Any, make: Callable[[Any, str], Any] | None = None) -> None:
        self._pipe = pipe
        self._make = make or _made
        self._made: dict[str, Any] = {}

    def of(self, request: ImageRequest) -> Any:
        """The form for a request; raises RequestError that says what the model can do when it can't do this."""
        name, count = type(self._pipe).__name__, len(request.images)
        if not count and needs_picture(self._pipe):
            also = " and a mask in options" if needs_mask(self._pipe) else ""
            raise RequestError(f"this model draws from a picture: send one in images{also}", param="images")
        if count and not request.mask and needs_mask(self._pipe):
            raise RequestError("this model draws into a mask: send one in options", param="options.mask")
        most = _SEVERAL.get(name, 1)
        if count > most:
            what = "starts from one image" if most == 1 else f"takes {most} images"
            raise RequestError(f"this model {what} at most, not {count}", param="images")
        if request.mask and count > 1:
            raise RequestError("a mask belongs to one image, not to several", param="options.mask")
        form = self._form("mask" if request.mask else "picture") if count else self._pipe
        if request.strength is not None and "strength" not in parameters(form):
            raise RequestError("this model takes no strength: it looks at the picture and draws anew", param="options.strength")
        return form

    @property
    def abilities(self) -> PictureAbilities:
        """Everything that can be asked."""
        picture, mask = self._can("picture"), self._can("mask")
        guided = meaning(self._pipe)
        scheduler = getattr(self._pipe, "scheduler", None)
        return PictureAbilities(
            prompt_alone=not needs_picture(self._pipe),
            images="no" if picture is None and mask is None else "required" if needs_picture(self._pipe) else "optional",
            most_images=0 if picture is None and mask is None else _SEVERAL.get(type(self._pipe).__name__, 1),
            mask="no" if mask is None else "required" if needs_mask(self._pipe) else "optional",
            strength=any("strength" in parameters(form) for form in (picture, mask) if form is not None),
            guidance=guided.kind not in ("ignored", "distilled_true"),
            negative_prompt=guided.kind in ("classic", "true", "embedded_true", "distilled_true"),
            schedulers=() if scheduler is None else fitting(str(scheduler.config._class_name)),
        )

    def _can(self, task: str) -> Any:
        """The form for a task; None when there is none."""
        with suppress(RequestError):
            return self._form(task)
        return None

    def _form(self, task: str) -> Any:
        argument = "mask_image" if task == "mask" else "image"
        if argument in parameters(self._pipe):
            return self._pipe
        if task not in self._made:
            self._made[task] = self._make(self._pipe, task)
        if self._made[task] is None:
            raise RequestError(f"this model does not {_TASKS[task]}; it can {self._what_it_can()}", param=_FIELDS[task])
        return self._made[task]

    def _what_it_can(self) -> str:
        can = [] if needs_picture(self._pipe) else ["draw from a text"]
        can += [
            _TASKS[task]
            for task in ("picture", "mask")
            if self._made.get(task, self) is not None and self._can(task) is not None
        ]
        return " and ".join(can)


def forms_of(hints: Hints) -> Forms | None:
    """The forms of a pipeline that is not loaded, by its files and diffusers' code; None for a class that is not known.

    Blocks: up to 0.2 s.
    """
    denoiser = "unet" if "unet" in hints.index else "transformer"
    parts = {denoiser: hints.denoiser, **({"scheduler": hints.scheduler} if hints.scheduler_kind else {})}
    pipe = stand_in(hints.family, hints.index, **parts)
    return None if pipe is None else Forms(pipe, _standing_in)


def told(shown: ShowResponse, hints: Hints | None) -> ShowResponse:
    """What is shown of a model, with what the installed packages say of its pipeline. Blocks: up to 0.5 s."""
    if hints is None:
        return shown
    forms, warnings = forms_of(hints), [*(shown.warnings or ()), *lacking(hints)]
    can = UNSET if forms is None else forms.abilities
    return msgspec.structs.replace(shown, picture_abilities=can, warnings=warnings or UNSET)


def _standing_in(pipe: Any, task: str) -> Any:
    name = type(pipe).__name__
    return stand_in(_FORMS.get((name, task)) or other_form(name, task))


_TASKS = {"picture": "start from an image", "mask": "draw into a mask"}
_FIELDS = {"picture": "images", "mask": "options.mask"}


def needs_picture(pipe: Any) -> bool:
    """Whether it does not draw from a text alone."""
    image = parameters(pipe).get("image")
    return image is not None and (image.default is image.empty or bool(_NEEDS_PICTURE.search(type(pipe).__name__)))


def needs_mask(pipe: Any) -> bool:
    """Whether it draws into a mask only."""
    return "mask_image" in parameters(pipe) and bool(_NEEDS_MASK.search(type(pipe).__name__))


def _made(pipe: Any, task: str) -> Any:
    """Another form of a pipeline, which shares all weights; None when there is none."""
    import diffusers  # imports every kind of pipeline: half a second

    auto = diffusers.AutoPipelineForInpainting if task == "mask" else diffusers.AutoPipelineForImage2Image
    named = _FORMS.get((type(pipe).__name__, task))
    try:
        form = getattr(diffusers, named).from_pipe(pipe) if named else auto.from_pipe(pipe)
    except (ValueError, AttributeError):
        return None
    form.set_progress_bar_config(disable=True)
    return form
