"""How the steps of a picture follow each other: schedulers of diffusers, by the names that its documentation lists.

A name is a class with settings. One kind of model can be drawn with by any of them; a model that follows a flow, or one of
another kind, has its own alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serow import bounds
from serow.errors import RequestError


@dataclass(frozen=True)
class Scheduler:
    """A class of diffusers, and what it is given beside the settings of the model's own scheduler."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)


NEUTRAL = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}  # what no name says
_KARRAS = {"use_karras_sigmas": True}
_ODE, _SDE = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
_MULTISTEP, _SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
SCHEDULERS: Mapping[str, Scheduler] = {
    "DPM++ 2M": Scheduler(_MULTISTEP, _ODE),
    "DPM++ 2M Karras": Scheduler(_MULTISTEP, {**_ODE, **_KARRAS}),
    "DPM++ 2M SDE": Scheduler(_MULTISTEP, _SDE),
    "DPM++ 2M SDE Karras": Scheduler(_MULTISTEP, {**_SDE, **_KARRAS}),
    "DPM++ SDE": Scheduler(_SINGLESTEP, _ODE),
    "DPM++ SDE Karras": Scheduler(_SINGLESTEP, {**_ODE, **_KARRAS}),
    "DPM2": Scheduler("KDPM2DiscreteScheduler"),
    "DPM2 Karras": Scheduler("KDPM2DiscreteScheduler", _KARRAS),
    "DPM2 a": Scheduler("KDPM2AncestralDiscreteScheduler"),
    "DPM2 a Karras": Scheduler("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "Euler": Scheduler("EulerDiscreteScheduler"),
    "Euler Karras": Scheduler("EulerDiscreteScheduler", _KARRAS),
    "Euler a": Scheduler("EulerAncestralDiscreteScheduler"),
    "Heun": Scheduler("HeunDiscreteScheduler"),
    "Heun Karras": Scheduler("HeunDiscreteScheduler", _KARRAS),
    "LMS": Scheduler("LMSDiscreteScheduler"),
    "LMS Karras": Scheduler("LMSDiscreteScheduler", _KARRAS),
    "DEIS": Scheduler("DEISMultistepScheduler"),
    "UniPC": Scheduler("UniPCMultistepScheduler"),
    "UniPC Karras": Scheduler("UniPCMultistepScheduler", _KARRAS),
    "DDIM": Scheduler("DDIMScheduler"),
    "DDPM": Scheduler("DDPMScheduler"),
    "PNDM": Scheduler("PNDMScheduler", {"skip_prk_steps": True}),  # as every model of its time is stored
    "LCM": Scheduler("LCMScheduler"),
    "TCD": Scheduler("TCDScheduler"),
}
EXCHANGEABLE = frozenset({  # classes that diffusers calls compatible with all of these
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", _MULTISTEP, _SINGLESTEP, "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "DPMSolverSDEScheduler",
    "DDIMParallelScheduler", "DDPMParallelScheduler", "SASolverScheduler",
})  # fmt: skip
_FEW = ("LCMScheduler", "TCDScheduler")  # for a LoRA that distills such a model; theirs draw with nothing else
_SPACE = re.compile(r"[\s_]+")


def _plain(name: str) -> str:
    return _SPACE.sub(" ", name).strip().lower()


_BY_PLAIN = {
    **{_plain(each.kind): name for name, each in reversed([*SCHEDULERS.items()])},
    **{_plain(n): n for n in SCHEDULERS},
}


def canonical(name: str) -> str:
    """A scheduler's name as the table has it, also for the name of its class; raises RequestError that lists all."""
    found = _BY_PLAIN.get(_plain(name)) if len(name) < 100 else None
    if found is None:
        raise RequestError(f'option "scheduler": "{bounds.quoted(name)}" is not known; known are {", ".join(SCHEDULERS)}')
    return found


def name_of(config: Mapping[str, Any]) -> str:
    """What a scheduler of these settings is called in the table, else the name of its class."""
    kind = str(config.get("_class_name", ""))
    known = {**NEUTRAL, **_ODE, **config}
    found = [
        name
        for name, each in SCHEDULERS.items()
        if each.kind == kind and all(known.get(k, v) == v for k, v in each.settings.items())
    ]
    return max(found, key=lambda name: len(SCHEDULERS[name].settings), default=kind)


def fitting(own: str) -> Sequence[str]:
    """The schedulers that a model can be drawn with whose own is of the class `own`."""
    kinds = {*EXCHANGEABLE, *_FEW} if own in EXCHANGEABLE else {own}
    return [name for name, each in SCHEDULERS.items() if each.kind in kinds]


def check_fit(name: str, own: str) -> None:
    """Raise RequestError for a scheduler that a model can't be drawn with whose own is of the class `own`."""
    can = fitting(own)
    if name in can:
        return
    why = "follows a flow" if own.startswith("FlowM") else f"is made for its own scheduler, {own}"
    what = f"it can be drawn with {', '.join(can)}" if can else f"it is drawn with its own, {own}, alone"
    raise RequestError(f'the scheduler "{name}" does not fit: the model {why}; {what}', param="options.scheduler")
