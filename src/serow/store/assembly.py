"""A manifest and its blobs put together into a Model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from serow import bounds
from serow.errors import ModelFileError, StoreError
from serow.options import parse_options
from serow.store import layouts, pipeline
from serow.store import manifest as media
from serow.store.blobs import Blobs
from serow.store.capabilities import capabilities
from serow.store.engine_address import is_remote
from serow.store.folder import LORAS, check_path
from serow.store.guesser import Guesser
from serow.store.heads import Heads
from serow.store.links import is_linked
from serow.store.manifest import Config, Layer, Manifest, Message, decode, decode_config, decode_manifest
from serow.store.model import Capability, Model, ModelDetails
from serow.store.name import Name
from serow.store.picture_defaults import defaults
from serow.store.pipeline import folder_name, lay_out
from serow.store.remote import RemoteFiles
from serow.store.split import in_order, parts_of
from serow.store.tensors import refuse_kind
from serow.store.weights import Weights, human_count

_Messages = Annotated[list[Message], msgspec.Meta(max_length=bounds.MODEL_MESSAGES.limit)]


class Parts:
    """The small layers of a model, read when they are asked for; raises ModelFileError, StoreError."""

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self.manifest = manifest
        self._blobs = blobs

    @property
    def config(self) -> Config:
        """What the model says it is."""
        return decode_config(self._blobs.read(self.manifest.config.digest, media.CONFIG_LIMIT))

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
        layers, left, texts = self.manifest.all(media.LICENSE), media.TEXT_LIMIT, list[str]()
        if len(layers) > bounds.LICENSES.limit:
            raise ModelFileError(f"the model has {len(layers)} licenses, more than the {bounds.LICENSES.limit} allowed")
        for layer in layers:
            data = self._read(layer.digest, left)
            left -= len(data)
            texts.append(data.decode("utf-8", "replace"))
        return tuple(texts)

    @property
    def parameters(self) -> dict[str, Any]:
        """PARAMETER lines as they are stored, not yet validated."""
        layer = self.manifest.last(media.PARAMS)
        return {} if layer is None else decode(self._read(layer.digest, media.PARAMETERS_LIMIT), dict[str, Any], "parameters")

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """MESSAGE lines: `role` and `content`."""
        layer = self.manifest.last(media.MESSAGES)
        found = [] if layer is None else decode(self._read(layer.digest), _Messages, "messages")
        return tuple({"role": message.role, "content": message.content} for message in found)

    def _read(self, digest: str, limit: int = media.TEXT_LIMIT) -> bytes:
        return self._blobs.read(digest, limit)

    def _text(self, *media_types: str) -> str:
        layer = self.manifest.last(*media_types)
        return "" if layer is None else self._read(layer.digest).decode("utf-8", "replace")


@dataclass(frozen=True)
class Assembler:
    """Puts the models of one store together. `folders`: where files that need their names are laid out as links."""

    blobs: Blobs
    folders: Path
    heads: Heads

    def assemble(self, name: Name, digest: str, modified: float, data: bytes) -> Model:
        """Read everything that a request needs to know of a model; raises ModelFileError, StoreError.

        Blocks: 10 to 100 ms for weights that were not read before.
        """
        manifest = decode_manifest(data)
        parts = Parts(manifest, self.blobs)
        config = parts.config
        shared: dict[str, Any] = {
            "name": name,
            "digest": digest,
            "size": manifest.size,
            "modified_at": datetime.fromtimestamp(modified, UTC),
            "system": parts.system,
            "license": parts.license,
            "messages": parts.messages,
            "parameters": parse_options(parts.parameters)[0],
            "renderer": config.renderer or "",
            "parser": config.parser or "",
            "requires": config.requires or "",
            "remote_model": config.remote_model or "",
            "remote_host": config.remote_host or "",
            "declared_context_length": config.context_length or 0,
            "declared_embedding_length": config.embedding_length or 0,
        }
        if files := pipeline.layers_of(manifest):
            return self._image_model(shared, files, parts, config)
        if is_remote(config.remote_host or ""):
            return self._remote_model(shared, parts, config)
        if manifest.all(media.FOLDER_FILE):
            return self._vllm_model(shared, parts, config)
        if manifest.all(media.WEIGHTS):
            return self._text_model(shared, parts, config)
        return self._foreign_model(shared, config)

    def _text_model(self, shared: dict[str, Any], parts: Parts, config: Config) -> Model:
        manifest = parts.manifest
        layer = manifest.all(media.WEIGHTS)[-1]
        path, *others = self._weights(manifest)
        weights = self.heads.describe(path, *others)
        projector, draft = manifest.last(media.PROJECTOR), manifest.last(media.DRAFT)
        found = capabilities(weights, has_projector=projector is not None, template=parts.template, parser=config.parser or "")
        return Model(
            **shared,
            weights=path,
            projector=None if projector is None else self.blobs.path(projector.digest),
            projector_size=0 if projector is None else projector.size,
            adapters=tuple(self.blobs.path(adapter.digest) for adapter in manifest.all(media.ADAPTER)),
            draft=None if draft is None else self._guesser(path, draft),
            template=parts.template,
            chat_template=weights.chat_template,
            parent_model=layer.parent,
            details=_details(config, layer.parent, weights),
            capabilities=_declared(config, found),
            architecture=weights.architecture,
            context_length=weights.context_length,
            embedding_length=weights.embedding_length,
            normalizes_vectors=weights.normalizes_vectors,
            vocab_size=weights.vocab_size,
            fim_tokens=weights.fim_tokens,
            beginning=weights.beginning,
            control_tokens=weights.control_tokens,
            whole_tokens=weights.whole_tokens,
            kv_bytes=weights.kv_bytes,
            layers=weights.layers,
            linked=tuple(each.digest for each in manifest.layers if is_linked(self.blobs.path(each.digest))),
            refusal=layouts.refusal(shared["name"].display_shortest, weights.instead) or _no_turns(config, parts, weights),
        )

    def _guesser(self, weights: Path, layer: Layer) -> Guesser:
        """The draft, which keeps no model from being run without it."""
        path = self.blobs.path(layer.digest)
        try:
            found = self.heads.describe(path)
            refusal = self.heads.misfit(weights, path)
        except (ModelFileError, StoreError) as error:
            return Guesser(path, layer.size, refusal=str(error))
        return Guesser(path, layer.size, found.kv_bytes, found.embedding_length, found.layers, refusal)

    def _image_model(self, shared: dict[str, Any], files: list[Layer], parts: Parts, config: Config) -> Model:
        folder = lay_out(_checked(files), self.blobs, self.folders / folder_name(files))
        digests = {layer.name: layer.digest for layer in files}
        hints = pipeline.hints(digests, lambda name: self.blobs.read(digests[name], media.SETTINGS_LIMIT))
        adapters = tuple(folder / layer.name for layer in files if layer.name.startswith(f"{LORAS}/"))
        found: tuple[Capability, ...] = ("image",)
        return Model(
            **shared,
            weights=folder,
            adapters=adapters,
            template=parts.template,
            details=_details(_told(config, hints.index), ""),
            capabilities=tuple(dict.fromkeys((*found, *_declared(config, ())))),
            picture_defaults=defaults(hints, shared["parameters"]),
            picture_hints=hints,
            refusal=_unreadable(shared["name"], hints.index, config),
        )

    def _remote_model(self, shared: dict[str, Any], parts: Parts, config: Config) -> Model:
        """A model at an engine's address."""
        files = RemoteFiles.of(parts.manifest, self.blobs)
        fields = files.fields()
        return Model(
            **shared,
            **{**fields, "context_length": config.context_length or fields["context_length"]},
            weights=fields["tokenizer"],
            template=parts.template,
            details=_details(config, ""),
            capabilities=_declared(config, () if "embedding" in (config.capabilities or ()) else files.capabilities()),
            embedding_length=config.embedding_length or 0,
        )

    def _vllm_model(self, shared: dict[str, Any], parts: Parts, config: Config) -> Model:
        """A model whose folder of safetensors is kept as it is."""
        files = RemoteFiles.of(parts.manifest, self.blobs)
        layers = _checked(parts.manifest.all(media.FOLDER_FILE))
        return Model(
            **shared,
            **files.fields(),
            weights=lay_out(layers, self.blobs, self.folders / folder_name(layers)),
            template=parts.template,
            details=_details(config, ""),
            capabilities=_declared(config, files.capabilities()),
            architecture=config.model_family or "",
            kv_bytes=files.kv_bytes(),
        )

    def _weights(self, manifest: Manifest) -> list[Path]:
        """The files of the weights; those of a split model lie under the names by which the engine finds them."""
        parts = parts_of(manifest)
        ordered = in_order(parts, lambda part: self.heads.place(self.blobs.path(part.digest)))
        if not ordered:
            return [self.blobs.path(manifest.all(media.WEIGHTS)[-1].digest)]
        folder = lay_out(ordered, self.blobs, self.folders / folder_name(parts))
        return [folder / part.name for part in ordered]

    def _foreign_model(self, shared: dict[str, Any], config: Config) -> Model:
        """A model that is listed, shown, copied and pushed, and can't be run: of tensors, or of another machine."""
        name = shared["name"].display_shortest
        known = _declared(config, ())
        if config.remote_host:
            refusal = f"{name} runs on {config.remote_host}: this server runs models itself"
        else:
            refusal = f"{name} has no weights that can run here"
        return Model(
            **shared,
            weights=self.blobs.root,
            details=_details(config, ""),
            capabilities=known or ("completion",),
            refusal=refusal,
        )


def _checked(files: list[Layer]) -> list[Layer]:
    for layer in files:
        check_path(layer.name)
    return files


def _no_turns(config: Config, parts: Parts, weights: Weights) -> str:
    """Why a model that relies on a format of Ollama's own can't be run: nothing here says where its turns begin (LIB-38)."""
    if not config.renderer or parts.template or weights.chat_template or weights.has_pooling:
        return ""
    return (
        f'the model is told by its renderer "{config.renderer}" only, which is built into Ollama: its file has no chat template'
    )


def _told(config: Config, index: Mapping[str, Any]) -> Config:
    """A config that says what model_index.json does, where it says nothing itself: of Ollama's image models."""
    family, count, kind = (index.get(name) for name in ("architecture", "parameter_count", "quantization"))
    return msgspec.structs.replace(
        config,
        model_family=config.model_family or (family if isinstance(family, str) else None),
        model_type=config.model_type or (human_count(count) if isinstance(count, int) and count > 0 else None),
        file_type=config.file_type or (kind if isinstance(kind, str) else None),
    )


def _unreadable(name: Name, index: Mapping[str, Any], config: Config) -> str:
    """Why the weights of an image model can't be read, from what is said of them."""
    try:
        for kind in (index.get("quantization"), config.file_type):
            refuse_kind(kind, name.display_shortest)
    except ModelFileError as error:
        return f"{error}: {error.hint}"
    return ""


def _details(config: Config, parent: str, weights: Weights | None = None) -> ModelDetails:
    """The config's words, the file's where it says nothing."""
    family = weights.architecture if weights else ""
    return ModelDetails(
        parent_model=parent,
        format=config.model_format or "gguf",
        family=config.model_family or family,
        families=config.model_families or ([family] if family else None),
        parameter_size=config.model_type or (weights.parameter_size if weights else ""),
        quantization_level=config.file_type or (weights.file_type if weights else ""),
    )


def config_of(weights: Weights) -> Config:
    """What a file says of a model that is made of it."""
    return Config(
        model_format="gguf",
        model_family=weights.architecture,
        model_families=[weights.architecture],
        model_type=weights.parameter_size,
        file_type=weights.file_type,
    )


def _declared(config: Config, found: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """What the config declares beyond what was found; for a model whose format our templates don't show."""
    known: tuple[Capability, ...] = tuple(name for name in get_args(Capability) if name in (config.capabilities or ()))
    return tuple(dict.fromkeys((*known, *found)))
