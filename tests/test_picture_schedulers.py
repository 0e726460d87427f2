"""The names of schedulers, and which model can be drawn with which; diffusers by its sources, nothing is loaded."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serow.errors import RequestError
from serow.picture_schedulers import EXCHANGEABLE, SCHEDULERS, canonical, check_fit, fitting, name_of
from tests.pictures import needs_packages


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("DPM++ 2M", "DPM++ 2M"),
        ("dpm++ 2m karras", "DPM++ 2M Karras"),
        (" Euler_A ", "Euler a"),
        ("EulerDiscreteScheduler", "Euler"),
        ("DPMSolverMultistepScheduler", "DPM++ 2M"),
        ("PNDM", "PNDM"),
    ],
)
def test_a_name_is_read_however_it_is_written(given: str, name: str) -> None:
    assert canonical(given) == name


@pytest.mark.parametrize("name", ["", "Euler b", "x" * 10_000, "__class__"])
def test_an_unknown_name_is_refused_with_all_that_there_are(name: str) -> None:
    with pytest.raises(RequestError) as refused:
        canonical(name)
    assert all(known in str(refused.value) for known in SCHEDULERS) and len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "Euler Karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "DPM++ 2M SDE"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "DPM++ 2M"),
        ({"_class_name": "PNDMScheduler", "skip_prk_steps": True}, "PNDM"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler"),
        ({}, ""),
    ],
)
def test_settings_have_the_name_that_they_were_made_by(config: dict[str, Any], name: str) -> None:
    assert name_of(config) == name


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    check_fit("Euler a", "PNDMScheduler")
    check_fit("LCM", "DDIMScheduler")
    check_fit("LCM", "LCMScheduler")
    with pytest.raises(RequestError, match="the model follows a flow; it is drawn with its own, FlowMatchEulerDiscr"):
        check_fit("Euler", "FlowMatchEulerDiscreteScheduler")
    with pytest.raises(RequestError, match="is made for its own scheduler, LCMScheduler; it can be drawn with LCM"):
        check_fit("Euler", "LCMScheduler")


@needs_packages
def test_the_table_is_what_diffusers_says_of_its_classes() -> None:
    said = dict(_compatible())
    others = {"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DPMSolverMultistepInverseScheduler"}  # of no pictures
    assert {kind for kind, can in said.items() if can} - others == EXCHANGEABLE
    assert {each.kind for each in SCHEDULERS.values()} <= said.keys()
    assert {SCHEDULERS[name].kind for name in fitting("DDIMScheduler")} - {"LCMScheduler", "TCDScheduler"} <= _enumerated()


def _sources() -> Iterator[ast.Module]:
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None and spec.origin is not None
    yield from (ast.parse(path.read_text()) for path in (Path(spec.origin).parent / "schedulers").glob("scheduling_*.py"))


def _compatible() -> Iterator[tuple[str, bool]]:
    """Every scheduler of diffusers, and whether it says that it can stand for those of the enumeration."""
    for source in _sources():
        for node in source.body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Scheduler"):
                texts = [ast.unparse(each) for each in node.body if isinstance(each, ast.Assign)]
                yield node.name, any(t.startswith("_compatibles") and "KarrasDiffusionSchedulers" in t for t in texts)


def _enumerated() -> set[str]:
    """The members of diffusers' enumeration of schedulers that stand for each other."""
    classes = (node for source in _sources() for node in source.body if isinstance(node, ast.ClassDef))
    found = next(node for node in classes if node.name == "KarrasDiffusionSchedulers")
    return {ast.unparse(each.targets[0]) for each in found.body if isinstance(each, ast.Assign)}
