"""Which engines may have devices beside the CPU, as the inventory asks them."""

from serow.devices.inventory import PICTURES, VLLM, WHEEL, Asked
from serow.engines.home import EngineHome, forced
from serow.engines.kinds import Engine
from serow.engines.vllm import environment
from serow.errors import SerowError
from serow.settings import Settings


def engines_with_devices(settings: Settings) -> list[Asked]:
    """Those that were built for a GPU, one that the settings name, and what is installed with us."""
    found = [*EngineHome(settings.engines).engines(), *_forced(settings)]
    built = {engine.name: engine.executable for engine in found if engine.executable and engine.has_gpu is not False}
    return [*(Asked(name, executable) for name, executable in built.items()), WHEEL, PICTURES, *_vllm(settings)]


def _vllm(settings: Settings) -> list[Asked]:
    try:
        return [VLLM] if environment.find(settings).engine.has_gpu else []
    except SerowError:
        return []


def _forced(settings: Settings) -> list[Engine]:
    """None where the settings can't be: each request that needs an engine is told."""
    try:
        engine = forced(settings)
    except SerowError:
        return []
    return [engine] if engine else []
