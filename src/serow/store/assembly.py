"""A manifest and its blobs put together into a Model."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from serow.errors import ModelFileError
from serow.options import parse_options
from serow.store import manifest as media
from serow.store.blobs import Blobs
from serow.store.capabilities import capabilities
from serow.store.manifest import Config, Manifest, Message, decode
from serow.store.model import Capability, Model, ModelDetails
from serow.store.name import Name
from serow.store.pipeline import folder_name, lay_out
from serow.store.weights import describe


class Parts:
    """The small layers of a model, read when they are asked for; raises ModelFileError, StoreError."""

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self.manifest = manifest
        self._blobs = blobs

    @property
    def config(self) -> Config:
        """What the model says it is."""
        return decode(self._blobs.read(self.manifest.config.digest, media.CONFIG_LIMIT), Config, "config")

    @property
    def template(self) -> str:
        """The TEMPLATE, "" when there is none."""
        return self._text(media.TEMPLATE, media.PROMPT)

    @property
    def system(self) -> str:
        """The system text, "" when there is none."""
        return self._text(media.SYSTEM)

    @property
    def license(self) -> tuple[str, ...]:
        """Every license text."""
        return tuple(self._read(layer.digest).decode("utf-8", "replace") for layer in self.manifest.all(media.LICENSE))

    @property
    def parameters(self) -> dict[str, Any]:
        """PARAMETER lines as they are stored, not yet validated."""
        layer = self.manifest.last(media.PARAMS)
        return {} if layer is None else decode(self._read(layer.digest), dict[str, Any], "parameters")

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """MESSAGE lines: `role` and `content`."""
        layer = self.manifest.last(media.MESSAGES)
        found = [] if layer is None else decode(self._read(layer.digest), list[Message], "messages")
        return tuple({"role": message.role, "content": message.content} for message in found)

    def _read(self, digest: str) -> bytes:
        return self._blobs.read(digest, media.TEXT_LIMIT)

    def _text(self, *media_types: str) -> str:
        layer = self.manifest.last(*media_types)
        return "" if layer is None else self._read(layer.digest).decode("utf-8", "replace")


def assemble(name: Name, digest: str, modified: float, parts: Parts, blobs: Blobs, pipelines: Path) -> Model:
    """Read everything that a request needs to know of a model; raises ModelFileError, StoreError. Blocks: 10 to 100 ms."""
    manifest = parts.manifest
    shared: dict[str, Any] = {
        "name": name,
        "digest": digest,
        "size": manifest.size,
        "modified_at": datetime.fromtimestamp(modified, UTC),
        "system": parts.system,
        "license": parts.license,
        "messages": parts.messages,
        "parameters": parse_options(parts.parameters)[0],
    }
    files = manifest.all(media.PIPELINE_FILE)
    if files:
        shared["weights"] = lay_out(files, blobs, pipelines / folder_name(files))
        return Model(**shared, details=_details(parts.config, "", "", "", ""), capabilities=("image",))
    return _text_model(shared, parts, blobs)


def _text_model(shared: dict[str, Any], parts: Parts, blobs: Blobs) -> Model:
    manifest = parts.manifest
    layer = manifest.last(media.WEIGHTS)
    if layer is None:
        raise ModelFileError(f"model '{shared['name'].display_shortest}' has no weights that can run here")
    path = blobs.path(layer.digest)
    weights = describe(path)
    projector = manifest.last(media.PROJECTOR)
    template, config = parts.template, parts.config
    parser = config.parser or ""
    found = capabilities(weights, has_projector=projector is not None, template=template, parser=parser)
    return Model(
        **shared,
        weights=path,
        projector=None if projector is None else blobs.path(projector.digest),
        adapters=tuple(blobs.path(adapter.digest) for adapter in manifest.all(media.ADAPTER)),
        template=template,
        chat_template=weights.chat_template,
        renderer=config.renderer or "",
        parser=parser,
        parent_model=layer.parent,
        details=_details(config, layer.parent, weights.architecture, weights.parameter_size, weights.file_type),
        capabilities=_declared(config, found),
        architecture=weights.architecture,
        context_length=weights.context_length,
        embedding_length=weights.embedding_length,
        normalizes_vectors=weights.normalizes_vectors,
        vocab_size=weights.vocab_size,
        fim_tokens=weights.fim_tokens,
        control_tokens=weights.control_tokens,
        kv_bytes=weights.kv_bytes,
    )


def _details(config: Config, parent: str, family: str, parameter_size: str, quantization_level: str) -> ModelDetails:
    """The config's words, the file's where it says nothing."""
    families = config.model_families or ([family] if family else None)
    return ModelDetails(
        parent_model=parent,
        format=config.model_format or "gguf",
        family=config.model_family or family,
        families=families,
        parameter_size=config.model_type or parameter_size,
        quantization_level=config.file_type or quantization_level,
    )


def _declared(config: Config, found: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """What the config declares beyond what was found; for a model whose format our templates don't show."""
    known: tuple[Capability, ...] = tuple(name for name in get_args(Capability) if name in (config.capabilities or ()))
    return tuple(dict.fromkeys((*known, *found)))
