"""What a picture is drawn with when neither the request nor the Modelfile says it: read from the folder's own files, else known
of the family (PIC-04). Pure: the files come as parsed JSON.

1. what only distilled models have: `is_distilled`, no `guidance_embeds`, a scheduler of their own: few steps, no guidance
2. a word in a name that the files carry: turbo, lightning, schnell …
3. the family's row
4. the code of the pipeline: then there is no value here
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from serow.picture_schedulers import name_of

Name = Literal["steps", "guidance", "width", "height", "scheduler"]
NAMES: tuple[Name, ...] = ("steps", "guidance", "width", "height", "scheduler")
MODELFILE = "Modelfile"
FAMILY = "family"
_SCHEDULER = "scheduler/scheduler_config.json"
CODE = "pipeline"  # diffusers' own code decides, by the class and the version that is installed

_LARGEST = 1 << 10  # latents on a side: of a number that is believed
_EULER = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
_UNET = ("StableDiffusion", "LatentConsistency", "Kolors")  # beginnings of classes whose UNet is drawn with
_WORDS = re.compile(
    r"(?<![a-z])(turbo|lightning|schnell|lcm|hyper|flash|sprint|distill(?:ed)?|dmd2?|tcd|klein(?!.*base))(?![a-z])"
)


@dataclass(frozen=True)
class Default:
    """A value, and who says it: `MODELFILE`, a path in the folder, `FAMILY`, or `CODE`, which has none here."""

    value: float | int | str | None
    source: str


@dataclass(frozen=True)
class Hints:
    """What files of a pipeline say of it, as parsed JSON; {} for one that there is not. `names`: of single files in it."""

    index: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    denoiser: Mapping[str, Any] = field(default_factory=dict)  # of the unet or the transformer
    vae: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The class of the pipeline."""
        name = self.index.get("_class_name", self.index.get("architecture"))
        return name if isinstance(name, str) else ""

    @property
    def scheduler_kind(self) -> str:
        """The class of its own scheduler, "" when nobody says it."""
        name = self.scheduler.get("_class_name")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class Habit:
    """How a family is drawn with: its full models, and its distilled ones."""

    steps: int
    guidance: float
    few: int = 4
    low: float = 0.0  # guidance of a distilled one: none
    side: int = 0  # pixels; 0: as the denoiser's configuration says


_HABITS = {
    "StableDiffusion": Habit(50, 7.5),
    "StableDiffusionXL": Habit(50, 5.0),
    "StableDiffusion3": Habit(28, 7.0),
    "LatentConsistencyModel": Habit(4, 8.5, low=8.5),
    "Flux": Habit(28, 3.5, side=1024),
    "FluxKontext": Habit(28, 2.5, side=1024),
    "FluxFill": Habit(50, 30.0, side=1024),
    "Flux2": Habit(50, 4.0, low=1.0, side=1024),
    "Flux2Klein": Habit(50, 4.0, low=1.0, side=1024),
    "Flux2KleinKV": Habit(4, 1.0, low=1.0, side=1024),
    "ZImage": Habit(50, 5.0, few=9, side=1024),
    "QwenImage": Habit(50, 4.0, few=8, low=1.0, side=1024),
    "QwenImageEdit": Habit(50, 4.0, few=8, low=1.0),
    "QwenImageEditPlus": Habit(40, 4.0, few=8, low=1.0),
    "Chroma": Habit(35, 5.0, few=10, low=1.0, side=1024),
    "Krea2": Habit(28, 4.5, few=8, side=1024),
    "AuraFlow": Habit(50, 3.5, side=1024),
    "Lumina2": Habit(30, 4.0, side=1024),
    "Sana": Habit(20, 4.5),
    "SanaSprint": Habit(2, 4.5, few=2, low=4.5),
    "PixArtAlpha": Habit(20, 4.5, low=0.0),
    "PixArtSigma": Habit(20, 4.5),
    "HiDreamImage": Habit(50, 5.0, few=16, low=0.0, side=1024),
    "CogView4": Habit(50, 5.0, side=1024),
    "Kolors": Habit(50, 5.0, side=1024),
    "ErnieImage": Habit(50, 4.0, few=8, low=1.0, side=1024),
}
_TASKS = ("Img2Img", "Inpaint", "ControlNet", "PAG")


def defaults(hints: Hints, parameters: Mapping[str, Any]) -> Mapping[str, Default]:
    """Steps, guidance, width, height and scheduler of a picture, each with its source; `parameters` are the Modelfile's."""
    habit = _habit(hints.family)
    found = {**(_few(hints, habit) if habit else _plain(hints)), **(_sides(hints, habit) if habit else {}), **_scheduler(hints)}
    given = {name: Default(parameters[name], MODELFILE) for name in NAMES if parameters.get(name) is not None}
    return {name: given.get(name) or found.get(name) or Default(None, CODE) for name in NAMES}


def is_few(hints: Hints) -> str:
    """Which file says that the model is distilled to few steps; "" when none does."""
    return next(_signs(hints), "")


def _signs(hints: Hints) -> Iterator[str]:
    distilled = hints.index.get("is_distilled")
    if isinstance(distilled, bool):
        yield from ("model_index.json",) if distilled else ()
        if "Klein" in hints.family or "Krea" in hints.family:  # their pipelines read it, names say less
            return
    name = hints.scheduler.get("_class_name")
    if name in ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler"):
        yield _SCHEDULER
    if name in _EULER and hints.scheduler.get("timestep_spacing") == "trailing" and hints.family.startswith(_UNET):
        yield _SCHEDULER  # how turbo and lightning models are stored
    if hints.family == "FluxPipeline" and hints.denoiser.get("guidance_embeds") is False:
        yield "transformer/config.json"  # schnell
    if hints.family == "ZImagePipeline" and hints.scheduler.get("shift") == 3.0:
        yield _SCHEDULER  # turbo: the base model has 6
    yield from (path for path, text in _named(hints) if _WORDS.search(text.lower()))


def _named(hints: Hints) -> Iterator[tuple[str, str]]:
    """Names of models that the files carry, by file."""
    folder = "unet" if hints.family.startswith(_UNET) else "transformer"
    for path, file in (("model_index.json", hints.index), (f"{folder}/config.json", hints.denoiser)):
        name = file.get("_name_or_path")
        if isinstance(name, str):
            yield path, name
    yield from ((name, name) for name in hints.names)


def _few(hints: Hints, habit: Habit) -> dict[Name, Default]:
    """Steps and guidance: few and none of a distilled model."""
    if source := is_few(hints):
        is_plain_lcm = hints.scheduler.get("_class_name") == "LCMScheduler" and not hints.denoiser.get("time_cond_proj_dim")
        low = 1.0 if is_plain_lcm and habit.low == 0.0 else habit.low
        return {"steps": Default(habit.few, source), "guidance": Default(low, source)}
    return {"steps": Default(habit.steps, FAMILY), "guidance": Default(habit.guidance, FAMILY)}


def _sides(hints: Hints, habit: Habit) -> dict[Name, Default]:
    """Width and height: those of the latent that the denoiser was trained with, else the family's."""
    if habit.side:
        return {"width": Default(habit.side, FAMILY), "height": Default(habit.side, FAMILY)}
    size = hints.denoiser.get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    blocks = hints.vae.get("block_out_channels")
    factor = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 0 < len(blocks) < 8 else 8
    factor = 32 if hints.family.startswith("Sana") else factor
    if not (isinstance(height, int) and isinstance(width, int) and 0 < min(height, width) <= max(height, width) <= _LARGEST):
        return {}
    source = f"{'unet' if hints.family.startswith(_UNET) else 'transformer'}/config.json"
    return {"height": Default(height * factor, source), "width": Default(width * factor, source)}


def _plain(hints: Hints) -> dict[Name, Default]:
    """What can be said of a family that is not in the table."""
    if source := is_few(hints):
        return {"steps": Default(8, source)}
    return {}


def _scheduler(hints: Hints) -> dict[Name, Default]:
    """The model's own."""
    name = name_of(hints.scheduler)
    return {"scheduler": Default(name, _SCHEDULER)} if name else {}


def _habit(family: str) -> Habit | None:
    """The row of a class, with or without the task that it is for."""
    stem = family.removesuffix("Pipeline")
    for task in _TASKS:
        stem = stem if stem in _HABITS else stem.replace(task, "")
    return _HABITS.get(stem)
