"""What routes tell of the models that there are."""

from msgspec import Struct

from serow.store.model import ModelDetails


class TagsModel(Struct, frozen=True, kw_only=True):
    """A model of /api/tags. `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class PsModel(Struct, frozen=True, kw_only=True):
    """A loaded model of /api/ps. Sizes in bytes."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int
