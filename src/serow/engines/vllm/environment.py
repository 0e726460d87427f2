"""Where vLLM is installed: an environment that the settings name, else our own. Nothing of it is imported here."""

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from serow.engines.kinds import VLLM, Engine
from serow.errors import RequestError
from serow.settings import Settings

HINT = "SEROW_VLLM=/path/of/its/environment names one; Serow installs none"
_PYTHONS = (Path("bin", "python"), Path("Scripts", "python.exe"))
_PACKAGES = ("lib/python3*/site-packages", "Lib/site-packages", "lib64/python3*/site-packages")
_DIST_INFO = re.compile(r"vllm(?P<cpu>[_-]cpu)?-(?P<version>[\w.+!-]{1,60})\.dist-info")


@dataclass(frozen=True)
class Environment:
    """A Python that has vLLM. `is_for_cpu`: it was built for no card."""

    python: Path
    version: str = ""  # "" where its packages can't be seen
    is_for_cpu: bool = False

    @property
    def engine(self) -> Engine:
        """As models get it."""
        return Engine(VLLM, self.version, self.python, has_gpu=not self.is_for_cpu)


def find(settings: Settings) -> Environment:
    """The vLLM for models of safetensors; raises RequestError where there is none."""
    if settings.vllm is not None:
        return _described(_python(settings.vllm))
    if importlib.util.find_spec("vllm") is not None:
        return _described(Path(sys.executable))
    raise RequestError("the model runs on vLLM, and this server has none", hint=HINT)


def is_there(settings: Settings) -> bool:
    """Whether models of safetensors can run here as they are."""
    try:
        find(settings)
    except RequestError:
        return False
    return True


def _python(path: Path) -> Path:
    """The interpreter of an environment, or the one that is named itself."""
    for each in (path, *(path / inner for inner in _PYTHONS)):
        if each.is_file() and os.access(each, os.X_OK):
            return each.absolute()  # a link into another environment stays one: it is how Python finds its packages
    raise RequestError(f"SEROW_VLLM={path} is no environment of Python", hint=HINT)


def _described(python: Path) -> Environment:
    root = python.parent.parent
    names = (each.name for place in _PACKAGES for each in root.glob(f"{place}/vllm*.dist-info"))
    match = next((found for name in names if (found := _DIST_INFO.fullmatch(name))), None)
    if match is None:
        return Environment(python)
    return Environment(python, match["version"], bool(match["cpu"]) or "+cpu" in match["version"])
