"""Manifests and configs of models: the JSON of Ollama's store, readable and writable by both sides.

A manifest lists layers, each a blob with a media type; a config says in one line what the model is. Unknown media types and
fields are no fault: they belong to versions or programs that know more than we do.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from serow.errors import ModelFileError
from serow.store.blobs import hex_of

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
WEIGHTS = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
TEMPLATE = "application/vnd.ollama.image.template"
PROMPT = "application/vnd.ollama.image.prompt"  # the template's name in old stores
SYSTEM = "application/vnd.ollama.image.system"
PARAMS = "application/vnd.ollama.image.params"
MESSAGES = "application/vnd.ollama.image.messages"
LICENSE = "application/vnd.ollama.image.license"
DRAFT = "application/vnd.ollama.image.draft"
TENSOR = "application/vnd.ollama.image.tensor"  # one tensor of a model that draws; `name` is component/tensor
JSON = "application/vnd.ollama.image.json"  # a file of settings; `name` is a path
PIPELINE_FILE = "application/vnd.serow.image.file"  # a file of a text-to-image pipeline; `name` is its path within
FOLDER_FILE = "application/vnd.serow.image.transformers"  # a file of a text model's folder of safetensors; `name` is its own

MANIFEST_LIMIT = 4 << 20  # bytes
CONFIG_LIMIT = 4 << 20
SETTINGS_LIMIT = 1 << 20  # of a part of a pipeline; they have a few KB
TEXT_LIMIT = 4 << 20  # a template, system text, messages, all licenses together
PARAMETERS_LIMIT = 1 << 20
_MOST_CONTAINERS = 200_000  # objects and lists of a JSON

_Read = TypeVar("_Read")


class Layer(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One blob of a model. `size` in bytes; `parent` is the model that it was taken from."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    parent: str = msgspec.field(name="from", default="")
    name: str = ""


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a name stands for."""

    schema_version: int = 2
    media_type: str = MANIFEST
    config: Layer
    layers: list[Layer]

    def all(self, *media_types: str) -> list[Layer]:
        """The layers of these media types, in order."""
        return [layer for layer in self.layers if layer.media_type in media_types]

    def last(self, *media_types: str) -> Layer | None:
        """The last layer of these media types: it overrides those before it."""
        return next(reversed(self.all(*media_types)), None)

    @property
    def size(self) -> int:
        """Bytes of all blobs, the config included."""
        return self.config.size + sum(layer.size for layer in self.layers)


class Config(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is. `model_type` is shown as parameter size, `file_type` as quantization level.

    `extra` holds what we don't know, and is written back as it came (LIB-38).
    """

    model_format: str | None = None
    model_family: str | None = None
    model_families: list[str] | None = None
    model_type: str | None = None
    file_type: str | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    remote_host: str | None = None
    remote_model: str | None = None
    capabilities: list[str] | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    base_name: str | None = None
    draft: dict[str, Any] | None = None
    architecture: str | None = None
    os: str | None = None
    rootfs: dict[str, Any] | None = None
    extra: dict[str, Any] = {}


_AGAIN = "fetch it again with serow pull, or make it again with serow create; serow rm removes it"
_CONFIG_FIELDS = frozenset(field for field in Config.__struct_fields__ if field != "extra")


def decode_config(data: bytes) -> Config:
    """Read a config, and keep what we don't know of it; raises ModelFileError."""
    found = decode(data, dict[str, Any], "config")
    known = {name: value for name, value in found.items() if name in _CONFIG_FIELDS}
    extra = {name: value for name, value in found.items() if name not in _CONFIG_FIELDS}
    try:
        return msgspec.convert({**known, "extra": extra}, Config)
    except msgspec.ValidationError:
        raise ModelFileError("the model's config is broken", hint=_AGAIN) from None


def encode_config(config: Config) -> bytes:
    """A config as Ollama writes it; what we don't know of it comes last."""
    fields = msgspec.to_builtins(config)
    return encode({**{name: value for name, value in fields.items() if name != "extra"}, **config.extra})


class Message(Struct, frozen=True):
    """A MESSAGE line: one turn of the conversation that every request starts with."""

    role: str = ""
    content: str = ""


def decode(data: bytes, kind: type[_Read], what: str, most_containers: float = _MOST_CONTAINERS) -> _Read:
    """Read the JSON of a store; raises ModelFileError that names what is broken, or holds too much."""
    if data.count(b"{") + data.count(b"[") > most_containers:
        raise ModelFileError(f"the model's {what} holds more than {most_containers} objects and lists")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelFileError(f"the model's {what} is broken", hint=_AGAIN) from None


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest and check its digests and sizes; raises ModelFileError."""
    if len(data) > MANIFEST_LIMIT:
        raise ModelFileError(f"the model's manifest is larger than {MANIFEST_LIMIT >> 20} MB")
    manifest = decode(data, Manifest, "manifest")
    for layer in (manifest.config, *manifest.layers):
        hex_of(layer.digest)
        if layer.size < 0:
            raise ModelFileError("the model's manifest has a layer of negative size")
    return manifest


_ENCODER = msgspec.json.Encoder()
_ESCAPED = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def encode(value: Any) -> bytes:
    """JSON as Go's encoder writes it, so that equal models have equal digests here and there: HTML escaped, a newline last."""
    data = _ENCODER.encode(value)
    for raw, escaped in _ESCAPED:
        data = data.replace(raw, escaped)
    return data + b"\n"
