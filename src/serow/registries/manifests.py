"""A manifest that came over the net, checked before anything is made of it (LIB-05, LIB-06)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from serow.errors import ModelFileError, RegistryError
from serow.store.blobs import hex_of
from serow.store.manifest import MANIFEST, MANIFEST_LIMIT, Manifest, decode, decode_manifest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
ACCEPT = f"{MANIFEST}, {OCI_MANIFEST}, {', '.join(INDEXES)}"
_MAX_LAYERS = 65_536
_LARGEST = 2**53  # bytes of a blob
_MODEL_MARKS = ("application/vnd.ollama.image.", "application/vnd.docker.ai.", "application/vnd.cncf.model.")


def fault(text: str) -> RegistryError:
    """A manifest that can't be used."""
    return RegistryError(f"pull model manifest: {text}")


def parse_object(data: bytes) -> dict[str, Any]:
    """A manifest or an index as JSON; raises RegistryError."""
    if len(data) > MANIFEST_LIMIT:
        raise fault(f"it is larger than {MANIFEST_LIMIT >> 20} MiB")
    try:
        found = decode(data, Any, "manifest")
    except ModelFileError as error:
        raise fault("it is no JSON" if "broken" in str(error) else str(error)) from None
    if not isinstance(found, dict):
        raise fault("it is no object")
    return found


def is_index(found: Mapping[str, Any], content_type: str) -> bool:
    """Whether it lists manifests for several machines: the content type decides, `mediaType` is second."""
    kind = content_type if content_type in (MANIFEST, OCI_MANIFEST, *INDEXES) else found.get("mediaType")
    return kind in INDEXES or (kind not in (MANIFEST, OCI_MANIFEST) and "manifests" in found and "layers" not in found)


def choose(index: Mapping[str, Any], architecture: str) -> str:
    """The digest of an index's manifest for linux and this architecture; raises RegistryError when there is none."""
    entries = index.get("manifests")
    for entry in entries if isinstance(entries, list) else ():
        where = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(where, dict) and where.get("os") == "linux" and where.get("architecture") == architecture:
            return f"sha256:{_hex(entry.get('digest'), 'manifests')}"
    raise fault(f"the index has no manifest for linux/{architecture}")


def check_digest(data: bytes, told: str) -> None:
    """Raise RegistryError when the bytes are not those that `Docker-Content-Digest` tells of."""
    if told.startswith("sha256:") and told.lower() != f"sha256:{hashlib.sha256(data).hexdigest()}":
        raise fault("Docker-Content-Digest is not the digest of what came")


def check(data: bytes) -> Manifest:
    """Read a manifest, or raise RegistryError that names the field."""
    found = parse_object(data)
    if found.get("schemaVersion") != 2:
        raise fault("schemaVersion is not 2")
    layers = found.get("layers")
    if not isinstance(layers, list) or not layers:
        raise fault("layers is not a list of layers")
    if len(layers) > _MAX_LAYERS:
        raise fault(f"layers has more than {_MAX_LAYERS} entries")
    sizes: dict[str, int] = {}
    for where, each in (
        *((f"layers[{number}]", layer) for number, layer in enumerate(layers)),
        ("config", found.get("config")),
    ):
        _check_descriptor(each, where, sizes)
    if not any(_is_model(each) for each in layers):
        raise fault("none of its layers is a model's")
    try:
        return decode_manifest(data)
    except ModelFileError as error:
        raise fault(str(error)) from None


def _is_model(layer: Mapping[str, Any]) -> bool:
    return str(layer.get("mediaType")).startswith((*_MODEL_MARKS, "application/vnd.serow.image."))


def _check_descriptor(found: object, where: str, sizes: dict[str, int]) -> None:
    if not isinstance(found, dict):
        raise fault(f"{where} is no object")
    digest, size = f"sha256:{_hex(found.get('digest'), where)}", found.get("size")
    if type(size) is not int or not 0 <= size <= _LARGEST:
        raise fault(f"{where}.size is not a whole number from 0 to 2^53")
    if sizes.setdefault(digest, size) != size:
        raise fault(f"{where}.size is another than before for the same digest")
    if not isinstance(found.get("mediaType"), str):
        raise fault(f"{where}.mediaType is no text")


def _hex(digest: object, where: str) -> str:
    if isinstance(digest, str) and digest.startswith("sha256:"):
        try:
            return hex_of(digest)
        except ModelFileError:
            pass
    raise fault(f"{where}.digest is not sha256: and 64 hexadecimal digits")
