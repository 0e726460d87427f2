"""What routes tell of the models that there are."""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from serow.store.model import ModelDetails


class TagsModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model of /api/tags. `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]
    remote_model: str | UnsetType = UNSET
    remote_host: str | UnsetType = UNSET


def time_text(moment: datetime) -> str:
    """RFC 3339 with a fraction; `moment` is in UTC."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


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


class Version(Struct, frozen=True):
    """The body of /api/version: the level of Ollama's API that is spoken, and Serow's own version."""

    version: str
    serow: str


class Tags(Struct, frozen=True):
    """The body of /api/tags."""

    models: list[TagsModel]


class Ps(Struct, frozen=True):
    """The body of /api/ps; the numbers with `?verbose=1`."""

    models: list[PsModel]
    num_waiting: int | UnsetType = UNSET
    max_queue: int | UnsetType = UNSET


class Progress(Struct, frozen=True):
    """A step of /api/create, /api/pull or /api/push; the last is `success`, or an Error. Sizes in bytes."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


class WasteItem(Struct, frozen=True):
    """Something in the store that belongs to no model. `size` in bytes."""

    kind: str
    what: str
    size: int
    is_removed: bool


class Pruned(Struct, frozen=True):
    """The body of /api/prune."""

    found: list[WasteItem]


class PartialModel(Struct, frozen=True):
    """What an unfinished download has left. Sizes in bytes, `age` in seconds since its last byte."""

    name: str
    digest: str
    size: int
    completed: int
    age: float


class Partials(Struct, frozen=True):
    """The body of /api/partials."""

    partials: list[PartialModel]


class Freed(Struct, frozen=True):
    """The body of /api/delete with `dry_run`: bytes that would be freed."""

    freed: int
