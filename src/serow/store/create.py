"""`create`: a recipe turned into the layers, config and manifest of a new model.

The statuses and the layers' bytes are Ollama's, so that the same recipe has the same digests in both. Nothing is written
before everything has been checked: `Draft` only reads, `write` stores what is new and drops it again when it fails.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from serow.errors import ModelFileError, RequestError
from serow.store import gguf, kept_folder, picture, pipeline, split, text_folder
from serow.store import manifest as media
from serow.store.assembly import Parts, config_of
from serow.store.blobs import Blobs
from serow.store.entries import Entries
from serow.store.folder import INDEX, SINGLE
from serow.store.guesser import NO_VOCABULARY
from serow.store.heads import Heads
from serow.store.manifest import Config, Layer, encode, encode_config
from serow.store.name import Name
from serow.store.picture_defaults import Hints
from serow.store.recipe import Recipe, as_stored
from serow.store.remote import RemoteFiles

__all__ = ["Draft", "Recipe"]

_MEDIA_TYPES = {"model": media.WEIGHTS, "projector": media.PROJECTOR, "adapter": media.ADAPTER}
_QUANTIZED_FROM = ("F32", "F16", "BF16")


class Draft:
    """A model in the making: what it is made of is read and checked, then `manifest` says what has to be written."""

    def __init__(self, blobs: Blobs, heads: Heads) -> None:
        self._blobs = blobs
        self._heads = heads
        self._maker = picture.Maker(blobs, heads)
        self._entries = Entries(blobs)
        self._config = Config()
        self._base: Parts | None = None
        self.parsed = 0  # GGUF files that were read
        self.warnings: list[str] = []  # what is not taken
        self.conversion: Mapping[str, str] = {}  # files of which the weights have to be made, by path and digest

    @classmethod
    def of(cls, recipe: Recipe, blobs: Blobs, heads: Heads, base: bytes | None, guesser: bytes | None = None) -> "Draft":
        """Follow a recipe; `base` is the manifest of its source, `guesser` the one of the model that it drafts with.

        Raises RequestError, ModelFileError, StoreError.
        """
        recipe.check()
        draft = cls(blobs, heads)
        if recipe.source is not None and base is not None:
            draft._add_base(recipe.source, base)
            if recipe.files and draft._entries.all(media.PIPELINE_FILE):
                draft._add_single(recipe.files)
            elif recipe.files:
                draft.warnings.append("files: 'from' names a model, its files are used")
        elif recipe.remote_host:
            draft._add_remote(recipe)
        else:
            draft._add_files(recipe.files or {}, keeps_folder=recipe.keeps_folder)
            draft._check_adapters()
        draft._add_adapters(recipe.adapters)
        draft._add_drafts(recipe.draft_files)
        if recipe.draft is not None and guesser is not None:
            draft._add_guesser(recipe.draft, media.decode_manifest(guesser))
        draft._add_texts(recipe)
        draft.warnings += recipe.unused(draws=bool(draft._entries.all(media.PIPELINE_FILE, media.TENSOR)))
        draft._config = msgspec.structs.replace(draft._config, **recipe.said)
        if recipe.quantize and not draft.conversion:
            draft._check_quantizable(media.WEIGHTS, may_merge=recipe.merge)
        if recipe.draft_quantize:
            draft._check_quantizable(media.DRAFT)
        return draft

    @property
    def layers(self) -> list[Layer]:
        """All layers, in order."""
        return self._entries.layers

    @property
    def picture_hints(self) -> Hints | None:
        """What the settings of an image model say of it; None for a model of another kind."""
        return self._maker.hints(self.layers) if self._entries.all(media.PIPELINE_FILE) else None

    @property
    def parsing(self) -> list[str]:
        """What was done to read the files, as Ollama words it."""
        return ["parsing GGUF"] * self.parsed

    def file_type(self, layer: Layer) -> str:
        """How the numbers of a file are packed: F16, Q8_0 …"""
        return self._heads.describe(self._blobs.path(layer.digest)).file_type

    @property
    def digests(self) -> list[str]:
        """Every blob that the model will have; the config last."""
        data = encode_config(self._final_config())
        return [*(layer.digest for layer in self.layers), f"sha256:{hashlib.sha256(data).hexdigest()}"]

    def manifest(self) -> bytes:
        """The manifest, as it will be stored; raises ModelFileError for one that nobody could read."""
        data = encode_config(self._final_config())
        config = Layer(media_type=media.CONFIG, digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data))
        layers = [{**msgspec.to_builtins(entry.layer), **entry.extra} for entry in self._entries.each]
        whole = encode({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": config, "layers": layers})
        media.decode_manifest(whole)
        return whole

    def write(self) -> Iterator[tuple[str, bool]]:
        """Store what is new; yields the digest of each layer, and whether it was new. Blocks; raises StoreError."""
        for entry in self._entries.each:
            is_new = not self._blobs.has(entry.layer.digest)
            if entry.data is not None:
                self._blobs.put(entry.data)
            yield entry.layer.digest, is_new
        self._blobs.put(encode_config(self._final_config()))

    @property
    def parts(self) -> list[Layer]:
        """The files of the weights, in order."""
        return self._entries.all(media.WEIGHTS)

    def add_weights(self, digest: str) -> None:
        """Take the file that was made of the folder; raises ModelFileError."""
        weights = self._heads.describe(self._blobs.path(digest))
        self._entries.insert(self._entries.file(media.WEIGHTS, digest))
        self._config = msgspec.structs.replace(
            config_of(weights), **{name: value for name, value in msgspec.structs.asdict(self._config).items() if value}
        )
        self._check_adapters()
        self._check_draft()

    def replace(self, old: Sequence[Layer], digest: str, size: int) -> None:
        """Take one file for others, the same numbers packed in another way. Raises ModelFileError."""
        weights = self._heads.describe(self._blobs.path(digest))
        layer = Layer(media_type=old[0].media_type, digest=digest, size=size, parent=old[0].parent)
        self._entries.exchange(old, layer)
        if layer.media_type == media.WEIGHTS:
            self._config = msgspec.structs.replace(self._config, file_type=weights.file_type, model_type=weights.parameter_size)

    def _final_config(self) -> Config:
        return msgspec.structs.replace(self._config, architecture="amd64", os="linux")

    def only(self, media_type: str) -> Layer:
        """The layer of a kind that a model has once; raises ModelFileError when there is none, RequestError for several."""
        found = self._entries.all(media_type)
        if not found:
            raise ModelFileError("the model has no weights in GGUF format")
        return found[0]

    def _check_quantizable(self, media_type: str, *, may_merge: bool = False) -> None:
        first, *others = self._entries.all(media_type) or [self.only(media_type)]
        if others and not may_merge:
            raise RequestError("only a model of one GGUF file can be quantized", hint="merge its parts: serow create --merge")
        found = self._heads.describe_part(self._blobs.path(first.digest)).file_type if others else self.file_type(first)
        if found not in _QUANTIZED_FROM:
            raise RequestError("quantization is only supported for F16, BF16 and F32 models")

    def _add_base(self, name: Name, data: bytes) -> None:
        manifest = media.decode_manifest(data)
        raw = media.decode(data, dict[str, Any], "manifest")["layers"]
        self._base = Parts(manifest, self._blobs)
        self._config = self._base.config
        for layer, fields in zip(manifest.layers, raw, strict=True):
            extra = {key: value for key, value in fields.items() if key not in ("mediaType", "digest", "size", "from", "name")}
            layer = msgspec.structs.replace(layer, digest=self._entries.present(layer.digest), parent=name.display_shortest)
            self._entries.add(layer, None, extra)

    def _add_files(self, given: Mapping[str, str], *, keeps_folder: bool) -> None:
        files = self._entries.all_present(given)
        if INDEX in files or self._maker.is_single(files):
            self._add_pipeline(files)
            return
        if text_folder.is_one(files):
            self._add_folder(files, is_kept=keeps_folder)
            return
        self._refuse_others(files)
        parts = split.numbers(files)
        for path, digest in sorted(files.items()):
            self.parsed += 1
            if (number := parts.get(path)) is not None:
                self._add_part(path, digest, number, len(parts))
            else:
                self._add_gguf(digest)
        weights = self._entries.all(media.WEIGHTS)
        if len(weights) != max(1, len(parts)):
            raise ModelFileError("the files must hold exactly one model, and its projector if it has one")
        if parts:
            self._config = config_of(self._heads.describe(*(self._blobs.path(layer.digest) for layer in weights)))

    def _add_remote(self, recipe: Recipe) -> None:
        """The files of a tokenizer, and where the engine is."""
        layers = {}
        for name, given in sorted((recipe.files or {}).items()):
            layers[name] = self._entries.file(media.JSON, self._entries.present(given, name), name)
            self._entries.add(layers[name])
        files = RemoteFiles(layers, self._blobs)
        self._config = files.config(recipe.remote_host, recipe.remote_model)

    def _add_folder(self, files: Mapping[str, str], *, is_kept: bool) -> None:
        """A folder of which a GGUF has to be made, or which vLLM reads as it is; what it holds is checked."""
        found = media.decode(self._blobs.read(files[text_folder.CONFIG], media.CONFIG_LIMIT), Any, text_folder.CONFIG)
        paths = [self._blobs.path(digest) for path, digest in files.items() if path.endswith(text_folder.WEIGHTS)]
        shapes = [self._heads.read_shapes(path) for path in paths]
        if not is_kept:
            text_folder.check(files, found)
            self.conversion = {path: digest for path, digest in files.items() if text_folder.is_read(path)}
            return
        self._config = kept_folder.checked(files, found, shapes)
        for path, digest in sorted(files.items()):
            self._entries.add(self._entries.file(media.FOLDER_FILE, digest, path))

    def _refuse_others(self, files: Mapping[str, str]) -> None:
        """Refuse files that are no GGUF, in words that say what they are (LIB-29, LIB-32)."""
        pipeline.refuse_single(files)
        for path, digest in sorted(files.items()):
            if not gguf.is_gguf(self._blobs.path(digest)):
                pipeline.refuse_pickle(path)
                is_named = path.lower().endswith(".gguf")
                raise ModelFileError("supplied file was not in GGUF format" if is_named else "unknown type")

    def _add_gguf(self, digest: str) -> None:
        weights = self._heads.describe(self._blobs.path(digest))
        if weights.kind == "model":
            self._config = config_of(weights)
        self._entries.add(self._entries.file(_MEDIA_TYPES[weights.kind], digest))

    def _add_part(self, path: str, digest: str, number: int, count: int) -> None:
        """A part of a model that is split into several files, which stay as they are."""
        file = self._blobs.path(digest)
        if not gguf.is_gguf(file) or self._heads.place(file) != (number, count):
            raise ModelFileError(f'"{path}" is not part {number} of {count} of a split model')
        self._entries.add(self._entries.file(media.WEIGHTS, digest, path.rpartition("/")[2]))

    def _add_adapters(self, adapters: Mapping[str, str]) -> None:
        if self._entries.all(media.PIPELINE_FILE, media.TENSOR):
            self._add_loras(adapters)
            return
        if len(adapters) > 1:
            raise RequestError("only one adapter is currently supported")
        for path, digest in sorted(adapters.items()):
            self.parsed += 1
            digest = self._entries.present(digest, path)
            if not gguf.is_gguf(self._blobs.path(digest)):
                pipeline.refuse_pickle(path)
                raise ModelFileError("an adapter must be a GGUF file", hint="convert it: llama.cpp's convert_lora_to_gguf.py")
            self._entries.add(self._entries.file(media.ADAPTER, digest))
        self._check_adapters()

    def _add_loras(self, adapters: Mapping[str, str]) -> None:
        """LoRA files over an image model; one of a name that the base has takes its place."""
        for path, digest in adapters.items():
            layer = self._maker.lora(path, self._entries.present(digest, path), self.layers)
            kind = layer.media_type, layer.name
            same = [each for each in self.layers if (each.media_type, each.name) == kind]
            if same and not same[0].parent:
                raise ModelFileError(f'two adapters have the name "{layer.name.rpartition(".")[0]}": rename one of them')
            self._entries.leave_out(same)
            self._entries.add(layer)

    def _check_adapters(self) -> None:
        """Refuse adapters that do not fit the weights; those of the base were looked at when it was made, or pulled."""
        adapters = [layer for layer in self._entries.all(media.ADAPTER) if not layer.parent]
        weights = self._entries.all(media.WEIGHTS)
        if adapters and not weights and self.conversion:
            return  # until there are
        if adapters and not weights:
            raise ModelFileError("an adapter needs a language model that it changes")
        for layer in adapters:
            self._heads.check_fit(self._blobs.path(layer.digest), self._blobs.path(weights[-1].digest))

    def _add_drafts(self, files: Mapping[str, str]) -> None:
        """A file of a smaller model that guesses ahead, in the place of the base's."""
        for path, digest in files.items():
            self.parsed += 1
            digest = self._entries.present(digest, path)
            self._set_draft(self._entries.file(media.DRAFT, digest))

    def _add_guesser(self, name: Name, manifest: media.Manifest) -> None:
        """The weights of a model that is here, as the one that guesses ahead."""
        found = manifest.all(media.WEIGHTS)
        if len(found) != 1:
            raise ModelFileError(f"{name.display_shortest} can't guess ahead: it is no model of one GGUF file")
        digest = self._entries.present(found[0].digest)
        self._set_draft(Layer(media_type=media.DRAFT, digest=digest, size=found[0].size, parent=name.display_shortest))

    def _set_draft(self, layer: Layer) -> None:
        path = self._blobs.path(layer.digest)
        if not gguf.is_gguf(path) or (weights := self._heads.describe(path)).kind != "model":
            raise ModelFileError("a draft must be a language model, as a GGUF file")
        if not self._entries.all(media.WEIGHTS) and not self.conversion:
            raise ModelFileError("a draft needs a language model that it guesses for")
        self._entries.drop(media.DRAFT)
        self._entries.add(layer)
        draft = {"model_format": "gguf", "architecture": weights.architecture}
        self._config = msgspec.structs.replace(self._config, draft=draft)
        self._check_draft()

    def _check_draft(self) -> None:
        """Refuse a draft that has other tokens than the weights; one without any is kept for Ollama, and told."""
        files = [
            self._blobs.path(layer.digest) for kind in (media.WEIGHTS, media.DRAFT) for layer in self._entries.all(kind)[:1]
        ]
        words = self._heads.misfit(*files) if len(files) == 2 else ""
        if words == NO_VOCABULARY:
            self.warnings.append(f"draft: {words}")
        elif words:
            hint = "a draft is a smaller model of the same family, with the same vocabulary"
            raise ModelFileError(f"the draft can't guess for the model: {words}", hint=hint)

    def _add_texts(self, recipe: Recipe) -> None:
        """Lay the recipe's texts over those of the base."""
        self._entries.drop(*(kind for name, kinds in _TEXTS.items() if name in recipe.dropped for kind in kinds))
        if recipe.template:
            self._entries.replace(recipe.template.encode(), media.TEMPLATE, media.PROMPT)
        if recipe.system:
            self._entries.replace(recipe.system.encode(), media.SYSTEM)
        for text in recipe.license:
            self._entries.put_new(text.encode(), media.LICENSE)
        inherited = self._base.parameters if self._base and "parameters" not in recipe.dropped else {}
        weights = {**(inherited.get("adapters") or {}), **(recipe.parameters.get("adapters") or {})}
        if weights and not self._entries.all(media.PIPELINE_FILE, media.TENSOR):
            raise ModelFileError("only adapters of image models have weights")
        parameters = as_stored({**inherited, **recipe.parameters, **({"adapters": weights} if weights else {})})
        if self._entries.all(media.PIPELINE_FILE, media.TENSOR):
            self._maker.check_parameters(parameters, self.layers)
        if parameters:
            self._entries.replace(encode(parameters), media.PARAMS)
        elif inherited:
            self._entries.drop(media.PARAMS)
        if recipe.messages:
            kept = [{"role": message["role"].lower(), "content": message["content"]} for message in recipe.messages]
            self._entries.replace(encode(kept), media.MESSAGES)

    def _add_pipeline(self, files: Mapping[str, str]) -> None:
        made = self._maker.make(files)
        for layer in made.layers:
            self._entries.add(layer, made.data.get(layer.digest))
        self._config = made.config
        self.warnings += made.warnings

    def _add_single(self, files: Mapping[str, str]) -> None:
        """A file over an image model that is here: its denoiser, or more of its parts."""
        base = {
            layer.name: layer.digest
            for layer in self._entries.all(media.PIPELINE_FILE)
            if not layer.name.startswith(f"{SINGLE}/")
        }
        self._entries.drop(media.PIPELINE_FILE)
        over = {f"{SINGLE}/{path.rpartition('/')[2]}": digest for path, digest in files.items()}
        self._add_pipeline(self._entries.all_present({**base, **over}))


_TEXTS = {
    "template": (media.TEMPLATE, media.PROMPT),
    "system": (media.SYSTEM,),
    "license": (media.LICENSE,),
    "messages": (media.MESSAGES,),
    "parameters": (media.PARAMS,),
    "draft": (media.DRAFT,),
}
DROPPABLE = (*_TEXTS, "renderer", "parser", "requires")  # what null in a request leaves out
