"""`create`: a recipe turned into the layers, config and manifest of a new model.

The statuses and the layers' bytes are Ollama's, so that the same recipe has the same digests in both.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serow import bounds
from serow.errors import ModelFileError, RequestError
from serow.options import parse_options
from serow.store import gguf, pipeline
from serow.store import manifest as media
from serow.store.adapter import check_fit
from serow.store.assembly import Parts
from serow.store.blobs import Blobs, hex_of
from serow.store.manifest import Config, Layer, Manifest, encode
from serow.store.name import Name
from serow.store.safetensors import count_parameters
from serow.store.weights import Weights, describe, human_count

_ROLES = ("system", "user", "assistant")
_MEDIA_TYPES = {"model": media.WEIGHTS, "projector": media.PROJECTOR, "adapter": media.ADAPTER}


@dataclass(frozen=True)
class Recipe:
    """What a model is made from: another model or uploaded files, by path and digest, and what lies over them."""

    source: Name | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()

    def check(self) -> None:
        """Refuse what can be refused before a file is opened; raises RequestError."""
        if self.source is None and not self.files:
            raise RequestError("neither 'from' or 'files' was specified")
        self._check_sizes()
        for path, digest in (*self.files.items(), *self.adapters.items()):
            if not _is_relative(path):
                raise ModelFileError("file path must be relative")
            if not digest:
                raise ModelFileError("invalid digest format")
        _, unknown = parse_options(self.parameters)
        if unknown:
            raise RequestError(f'unknown parameter "{unknown[0]}"')
        for message in self.messages:
            if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
                raise RequestError('message role must be one of "system", "user", or "assistant", with a content')

    def _check_sizes(self) -> None:
        """What is stored has to be readable again; raises RequestError."""
        bounds.FILES.check(len(self.files) + len(self.adapters), '"files"')
        bounds.LICENSES.check(len(self.license), '"license"')
        bounds.MODEL_MESSAGES.check(len(self.messages), '"messages"')
        texts = {"template": (self.template,), "system": (self.system,), "license": self.license}
        for name, each in texts.items():
            _TEXT.check(sum(len(text.encode()) for text in each), f'"{name}"')
        _TEXT.check(len(encode(list(self.messages))), '"messages"')


_TEXT = bounds.Bound(media.TEXT_LIMIT, "bytes", "a text of a model that is made")


def _is_relative(path: str) -> bool:
    return bool(path) and not path.startswith("/") and not {"..", ".", ""} & set(path.split("/")) and "\\" not in path


class Draft:
    """A model in the making: `add_base` or `add_files`, `add_texts`, then `finish`. `statuses` tell what was done."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._layers: list[Layer] = []
        self._config = Config()
        self._base: Parts | None = None
        self.statuses: list[str] = []

    def add_base(self, name: Name, manifest: Manifest) -> None:
        """Start from another model: all its layers, and what its config says. Raises ModelFileError, StoreError."""
        self._base = Parts(manifest, self._blobs)
        self._config = self._base.config
        for layer in manifest.layers:
            self._use(msgspec.structs.replace(layer, digest=self._present(layer.digest), parent=name.display_shortest))

    def add_files(self, files: Mapping[str, str]) -> Iterator[str]:
        """Take in uploaded files; yields what it does meanwhile. Raises ModelFileError."""
        if pipeline.INDEX in files:
            self._add_pipeline(files)
            return
        pipeline.refuse_single(files)
        for _, digest in sorted(files.items()):
            yield "parsing GGUF"
            self._use(self._gguf_layer(digest))
        if len(self._all(media.WEIGHTS)) != 1:
            raise ModelFileError("the files must hold exactly one model, and its projector if it has one")
        self._check_adapters()

    def add_adapters(self, adapters: Mapping[str, str]) -> Iterator[str]:
        """Take in uploaded LoRA adapters; yields what it does meanwhile. Raises ModelFileError."""
        for _, digest in sorted(adapters.items()):
            yield "parsing GGUF"
            self._use(Layer(media_type=media.ADAPTER, digest=self._present(digest), size=self._blobs.size(digest)))
        self._check_adapters()

    def add_texts(self, recipe: Recipe) -> None:
        """Lay the recipe's texts over those of the base."""
        if recipe.template:
            self._replace(recipe.template.encode(), media.TEMPLATE, media.PROMPT)
        if recipe.system:
            self._replace(recipe.system.encode(), media.SYSTEM)
        for text in recipe.license:
            self._put(text.encode(), media.LICENSE)
        parameters = {**(self._base.parameters if self._base else {}), **recipe.parameters}
        if parameters:
            self._replace(encode(_as_stored(parameters)), media.PARAMS)
        if recipe.messages:
            self._replace(
                encode([{key: message[key] for key in ("role", "content")} for message in recipe.messages]), media.MESSAGES
            )

    def finish(self) -> Manifest:
        """Write the config; returns the manifest."""
        data = encode(msgspec.structs.replace(self._config, architecture="amd64", os="linux"))
        digest, _ = self._blobs.put(data)
        return Manifest(config=Layer(media_type=media.CONFIG, digest=digest, size=len(data)), layers=self._layers)

    def _add_pipeline(self, files: Mapping[str, str]) -> None:
        counts: Counter[str] = Counter()
        for path, digest in sorted(files.items()):
            digest = self._present(digest)
            if path.endswith(".safetensors"):
                counts += count_parameters(self._blobs.path(digest))
            size = self._blobs.size(digest)
            self._use(Layer(media_type=media.PIPELINE_FILE, digest=digest, size=size, name=pipeline.check_path(path)))
        family = pipeline.family(self._blobs.read(files[pipeline.INDEX], media.CONFIG_LIMIT), files)
        self._config = Config(
            model_format="diffusers",
            model_family=family,
            model_families=[family],
            model_type=human_count(counts.total()),
            file_type=max(counts, key=counts.__getitem__, default="unknown"),
            capabilities=["image"],
        )

    def _gguf_layer(self, digest: str) -> Layer:
        digest = self._present(digest)
        weights = describe(self._blobs.path(digest))
        if weights.kind == "model":
            self._config = _config_of(weights)
        return Layer(media_type=_MEDIA_TYPES[weights.kind], digest=digest, size=self._blobs.size(digest))

    def _check_adapters(self) -> None:
        """Refuse adapters that do not fit the weights; those of the base were looked at when it was made, or pulled."""
        adapters = [layer for layer in self._all(media.ADAPTER) if not layer.parent]
        base = self._all(media.WEIGHTS)
        if adapters and not base:
            raise ModelFileError("an adapter needs a language model that it changes")
        for layer in adapters:
            check_fit(*(gguf.read(self._blobs.path(each.digest)) for each in (layer, base[-1])))

    def _present(self, digest: str) -> str:
        """The digest in its canonical form; raises ModelFileError when its blob is not there."""
        canonical = f"sha256:{hex_of(digest)}"
        if not self._blobs.has(canonical):
            raise ModelFileError(f"no file of the digest {canonical} is here")
        return canonical

    def _all(self, media_type: str) -> list[Layer]:
        return [layer for layer in self._layers if layer.media_type == media_type]

    def _use(self, layer: Layer) -> None:
        self._layers.append(layer)
        self.statuses.append(f"using existing layer {layer.digest}")

    def _put(self, data: bytes, media_type: str) -> None:
        digest, is_new = self._blobs.put(data)
        self._layers.append(Layer(media_type=media_type, digest=digest, size=len(data)))
        self.statuses.append(f"{'creating new' if is_new else 'using existing'} layer {digest}")

    def _replace(self, data: bytes, media_type: str, *older: str) -> None:
        """Put a layer in the place of those of its media type."""
        replaced = (media_type, *older)
        self._layers = [layer for layer in self._layers if layer.media_type not in replaced]
        self._put(data, media_type)


def _config_of(weights: Weights) -> Config:
    return Config(
        model_format="gguf",
        model_family=weights.architecture,
        model_families=[weights.architecture],
        model_type=weights.parameter_size,
        file_type=weights.file_type,
    )


def _as_stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as Ollama writes them: sorted, `stop` a list, whole numbers without a fraction, none that are null."""
    stored = {name: parameters[name] for name in sorted(parameters) if parameters[name] is not None}
    if isinstance(stored.get("stop"), str):
        stored["stop"] = [stored["stop"]]
    return {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in stored.items()}
