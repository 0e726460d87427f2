"""Where a pipeline is told to go, without torch: what was planned, and what nobody has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serow.devices.use import Use
from serow.engines.base import LoadRequest
from serow.engines.diffusers.protocol import ImageSpec
from serow.engines.diffusers.runner import ImageRunner
from serow.options import LoadOptions
from serow.settings import Settings
from tests.scheduler.machine import model


def spec_of(request: LoadRequest, monkeypatch: pytest.MonkeyPatch) -> ImageSpec:
    found: list[Any] = []

    class Child:
        def __init__(self, module: str, spec: ImageSpec, **options: Any) -> None:
            found.append(spec)

    monkeypatch.setattr("serow.engines.diffusers.runner.ChildProcess", Child)
    ImageRunner(request, Settings(models=Path("none")))
    return ImageSpec(**{name: getattr(found[0], name) for name in ImageSpec.__struct_fields__})


@pytest.mark.req("DEV-03", "DEV-04")
@pytest.mark.parametrize(
    ("layers", "num_layers", "device", "is_offloaded"),
    [(2, 2, "cuda:1", False), (1, 2, "cuda:1", True), (0, 2, "cpu", False), (0, 0, "", False)],
)
def test_a_pipeline_goes_where_it_was_planned(
    layers: int, num_layers: int, device: str, is_offloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = LoadRequest(model("p", capabilities=("image",)), LoadOptions(), 1, num_layers=num_layers)
    uses = (Use(id="b", handle="cuda:1", layers=layers),) if layers else ()
    spec = spec_of(replace(request, uses=uses), monkeypatch)
    assert (spec.device, spec.is_offloaded) == (device, is_offloaded)
