"""Models that other programs have put into registries: their layers get Ollama's media types, their blobs stay (LIB-27)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from serow.errors import RegistryError
from serow.registries.base import Found
from serow.store import manifest as media
from serow.store.manifest import Config, Layer, encode, encode_config

_FOREIGN = ("application/vnd.docker.ai.", "application/vnd.cncf.model.")
_KINDS = {
    "application/vnd.docker.ai.gguf.v3": media.WEIGHTS,
    "application/vnd.docker.ai.mmproj": media.PROJECTOR,
    "application/vnd.docker.ai.license": media.LICENSE,
}
_TITLES = ("org.cncf.model.filepath", "org.opencontainers.image.title")


def is_foreign(found: Found) -> bool:
    """Whether a model was made by Docker Model Runner or by a tool of the CNCF's model specification."""
    return any(layer.media_type.startswith(_FOREIGN) for layer in found.manifest.layers)


def translated(found: Found) -> Found:
    """The same model as Ollama would have it; raises RegistryError when it has no GGUF."""
    raw = media.decode(found.data, dict[str, Any], "manifest")["layers"]
    layers = [
        Layer(media_type=kind, digest=layer.digest, size=layer.size, name=_name(fields) if kind == media.WEIGHTS else "")
        for layer, fields in zip(found.manifest.layers, raw, strict=True)
        if (kind := _kind(layer.media_type, fields))
    ]
    if not any(layer.media_type == media.WEIGHTS for layer in layers):
        raise RegistryError("pull model manifest: the model has no weights in GGUF format, which is what runs here")
    config = encode_config(Config(model_format="gguf"))
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    top = Layer(media_type=media.CONFIG, digest=digest, size=len(config))
    data = encode({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": top, "layers": layers})
    return Found(data, media.decode_manifest(data), found.notes, {digest: config})


def _kind(media_type: str, fields: Mapping[str, Any]) -> str:
    if media_type in _KINDS:
        return _KINDS[media_type]
    name = _name(fields).lower()
    if media_type.startswith("application/vnd.cncf.model.weight.") and name.endswith(".gguf"):
        return media.PROJECTOR if "mmproj" in name else media.WEIGHTS
    return media.LICENSE if name.startswith("license") else ""


def _name(fields: Mapping[str, Any]) -> str:
    """The file's name that a layer is annotated with, "" for none."""
    annotations = fields.get("annotations")
    titles = [str(annotations.get(key, "")) for key in _TITLES] if isinstance(annotations, dict) else []
    return next((title.rpartition("/")[2] for title in titles if title), "")
