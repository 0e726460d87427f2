"""What a model is to be made from, and what can be said of it before a file is opened (LIB-28, LIB-30)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serow import bounds
from serow.errors import ModelFileError, RequestError
from serow.options import PICTURE_OPTIONS, USED_BY_PICTURES, parse_options
from serow.output.known import FAMILIES
from serow.store import manifest as media
from serow.store import remote
from serow.store.blobs import hex_of
from serow.store.manifest import encode
from serow.store.modelfile import SEMVER
from serow.store.name import Name

QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")  # in the peer's order
_ROLES = ("system", "user", "assistant", "tool")
_DRIVE = re.compile(r"[A-Za-z]:")
_TEXT = bounds.Bound(media.TEXT_LIMIT, "bytes", "a text of a model that is made")
_PARAMETERS = bounds.Bound(media.PARAMETERS_LIMIT, "bytes", "the parameters of a model that is made")
_INFO_TEXTS = ("model_family", "base_name", "quantization_level", "parameter_size")
_INFO_NUMBERS = ("context_length", "embedding_length")


@dataclass(frozen=True)
class Recipe:
    """What a model is made from: another model or uploaded files, by path and digest, and what lies over them.

    `files` is None when none were named. `dropped`: texts of the source that are left out.
    """

    source: Name | None = None
    files: Mapping[str, str] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    draft_files: Mapping[str, str] = field(default_factory=dict)
    draft: Name | None = None  # a model that is here and guesses ahead, in the place of `draft_files`
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    remote_host: str = ""
    remote_model: str = ""
    quantize: str = ""
    draft_quantize: str = ""
    merge: bool = False  # the parts of a split model become one file
    keeps_folder: bool = False  # of safetensors, for an engine that reads them; else a GGUF is made of it
    dropped: frozenset[str] = frozenset()

    def check(self) -> None:
        """Refuse what can be refused before a file is opened; raises RequestError."""
        if self.remote_host or self.remote_model:
            self._check_remote()
        if self.source is None and self.files is None:
            raise RequestError("neither 'from' or 'files' was specified")
        if self.source is None and not self.files:
            raise RequestError("no files provided to convert")
        self._check_sizes()
        self._check_files()
        _, unknown = parse_options(self.parameters)
        if unknown:
            raise RequestError(f'unknown parameter "{unknown[0]}"')
        for message in self.messages:
            if str(message.get("role")).lower() not in _ROLES or not isinstance(message.get("content"), str):
                raise RequestError('message role must be one of "system", "user", "assistant", or "tool", with a content')
        if self.requires and not SEMVER.fullmatch(self.requires):
            raise RequestError("requires must be a valid semver (e.g. 0.14.0)")
        self._check_info()
        self._check_quantize()

    @property
    def warnings(self) -> Iterator[str]:
        """What is said and has no effect."""
        if self.renderer:
            yield f"renderer: {bounds.quoted(self.renderer)} is kept for Ollama; here templates make the prompts"
        if self.parser and self.parser not in FAMILIES:
            yield f"parser: {bounds.quoted(self.parser)} is kept for Ollama and not known here"
        if self.draft_files or self.draft is not None:
            check = "serow engine build llama.cpp, then serow engine check llama.cpp with this model"
            yield f"{'draft' if self.draft else 'draft_files'}: used once a check has seen it pay: {check}"
        known = (*_INFO_TEXTS, *_INFO_NUMBERS, "capabilities")
        yield from (f"info: {bounds.quoted(name)} is not known" for name in self.info if name not in known)

    def unused(self, *, draws: bool) -> Iterator[str]:
        """What it says and a model that draws, or one that writes, has no use for."""
        kind = "draws" if draws else "writes"
        texts = ("template", "system", "messages") if draws else ()
        yield from (f"{name}: has no effect on a model that {kind}" for name in texts if getattr(self, name))
        for name in self.parameters:
            if (name not in USED_BY_PICTURES) if draws else (name in PICTURE_OPTIONS and name != "adapters"):
                yield f'parameters: "{name}" has no effect on a model that {kind}'

    @property
    def said(self) -> dict[str, Any]:
        """What it says of the model itself, as fields of the config."""
        said = {name: getattr(self, name) for name in ("renderer", "parser", "requires") if getattr(self, name)}
        said |= {name: None for name in ("renderer", "parser", "requires", "draft") if name in self.dropped}
        info = self.info
        said |= {name: info[name] for name in ("base_name", "capabilities") if name in info}
        said |= {name: int(info[name]) for name in ("context_length", "embedding_length") if name in info}
        if family := info.get("model_family"):
            said |= {"model_family": family, "model_families": [family]}
        said |= {"model_type": info["parameter_size"]} if "parameter_size" in info else {}
        said |= {"file_type": info["quantization_level"]} if "quantization_level" in info else {}
        return said

    def _check_sizes(self) -> None:
        """What is stored has to be readable again; raises RequestError."""
        bounds.FILES.check(len(self.files or ()) + len(self.adapters) + len(self.draft_files), '"files"')
        bounds.LICENSES.check(len(self.license), '"license"')
        bounds.MODEL_MESSAGES.check(len(self.messages), '"messages"')
        texts = {"template": (self.template,), "system": (self.system,), "license": self.license}
        texts |= {name: (getattr(self, name),) for name in ("renderer", "parser", "requires")}
        for name, each in texts.items():
            _TEXT.check(sum(len(text.encode()) for text in each), f'"{name}"')
        _TEXT.check(len(encode(list(self.messages))), '"messages"')
        _PARAMETERS.check(len(encode(dict(self.parameters))), '"parameters"')
        _TEXT.check(len(encode(dict(self.info))), '"info"')

    def _check_files(self) -> None:
        for path, digest in (*(self.files or {}).items(), *self.adapters.items(), *self.draft_files.items()):
            if not is_relative(path):
                raise ModelFileError("file path must be relative")
            hex_of(digest)
        if sum(not path.endswith(".safetensors") for path in self.adapters) > 1:  # image models may have several of those
            raise RequestError("only one adapter is currently supported")
        if len(self.draft_files) + (self.draft is not None) > 1:
            raise RequestError("only one draft is supported: a file in 'draft_files', or a model in 'draft'")

    def _check_remote(self) -> None:
        """A model at an engine's address has nothing of its own but a tokenizer (REM-01)."""
        if self.source is not None:
            raise RequestError('"remote_host" names an engine, "from" a model: a model has one of them')
        for name in ("adapters", "draft_files", "quantize"):
            if getattr(self, name):
                raise RequestError(f'"{name}" belongs to weights, which a model at an address has not here')
        remote.check(self.remote_host, self.remote_model, self.files or {})

    def _check_info(self) -> None:
        for name in _INFO_TEXTS:
            if name in self.info and not isinstance(self.info[name], str):
                raise RequestError(f'info field "{name}" must be a string')
        for name in _INFO_NUMBERS:
            value = self.info.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RequestError(f'info field "{name}" must be a number')
            if value < 0 or value != int(value):
                raise RequestError(f'info field "{name}" must be a non-negative integer')
        found = self.info.get("capabilities", [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise RequestError('info field "capabilities" must be a list of strings')

    def _check_quantize(self) -> None:
        for wanted in filter(None, (self.quantize, self.draft_quantize)):
            if wanted.upper() not in QUANTIZATIONS:
                known = ", ".join(QUANTIZATIONS)
                raise RequestError(f"unsupported quantization type {bounds.quoted(wanted)} - supported types are {known}")
        if self.draft_quantize and not self.draft_files and self.draft is None:
            raise RequestError("--draft-quantize requires a DRAFT model")


def as_stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as Ollama writes them: sorted, `stop` a list, whole numbers without a fraction, none that are null."""
    stored = {name: parameters[name] for name in sorted(parameters) if parameters[name] is not None}
    if isinstance(stored.get("stop"), str):
        stored["stop"] = [stored["stop"]]
    return {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in stored.items()}


def is_relative(path: str) -> bool:
    """Whether a path stays within its folder on every system (LIB-28)."""
    is_plain = bool(path) and not path.startswith("/") and "\\" not in path and not _DRIVE.match(path)
    return is_plain and not {"..", ".", ""} & set(path.split("/"))
