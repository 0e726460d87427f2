"""Limits of what a request may hold, beyond the size of its body. Each is a setting; what is over it gets a 400.

Pixels are counted where pictures are decoded (`images.py`), schemas and grammars where they are compiled (`constraints`).
"""

from serow.api.types import GenerateRequest
from serow.errors import RequestError
from serow.settings import Settings

_TEXTS = ("prompt", "system", "suffix", "template")


def check(request: GenerateRequest, settings: Settings) -> None:
    """Raise RequestError for what is larger than the settings allow, with its name and the limit."""
    for name in _TEXTS:
        _at_most(name, len(getattr(request, name)), "characters", settings.max_prompt)
    _at_most("context", len(request.context), "tokens", settings.max_prompt)
    _at_most("images", len(request.images), "pictures", settings.max_images)


def _at_most(name: str, size: int, unit: str, limit: int) -> None:
    if size > limit:
        raise RequestError(f'"{name}" holds {size} {unit}, more than the {limit} allowed')
