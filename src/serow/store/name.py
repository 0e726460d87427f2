"""Names of models: where they come from, what they are called, which variant.

Grammar, as Ollama's types/model/name.go has it (white space around the whole is dropped):

    name       = [ [ scheme "://" ] host "/" ] { namespace "/" } model [ ":" tag ]
    host       = first { alphanumeric | "_" | "-" | "." | ":" }    1 to 255 characters; ":" parts a port
    namespace  = first { alphanumeric | "_" | "-" }                1 to 80; up to 8 where the host has "." or ":"
    model, tag = first { alphanumeric | "_" | "-" | "." }          1 to 80; a model of Hugging Face up to 96
    first      = alphanumeric | "_"                                ASCII only

A part that is absent is `registry.ollama.ai`, `library`, `latest`; a part that is empty (`smollm2:`) is a fault. So no part
can be `..`, hold a separator or be longer than file systems take (Ollama's host goes up to 350), and a Name is safe as a path.
Names compare without regard to case.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import PurePath

from serow.bounds import NAME
from serow.errors import InvalidModelName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_HUGGING_FACE = ("hf.co", "huggingface.co", "modelscope.cn")
_MOST_NAMESPACES = 8
_COLON = "%3A" if sys.platform == "win32" else ":"  # in the name of a folder


@dataclass(frozen=True, eq=False)
class Name:
    """A complete name; every part is valid. Compared and hashed without regard to case."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        """Refuse a part that the grammar does not allow; raises InvalidModelName."""
        namespaces = self.namespace.split("/")
        repository = _REPOSITORY if self.host.lower() in _HUGGING_FACE else _MODEL
        most = _MOST_NAMESPACES if {".", ":"} & set(self.host) else 1
        if not (
            _HOST.fullmatch(self.host)
            and len(namespaces) <= most
            and all(map(_NAMESPACE.fullmatch, namespaces))
            and repository.fullmatch(self.model)
            and _MODEL.fullmatch(self.tag)
        ):
            raise InvalidModelName

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Read a name and fill in the defaults; raises InvalidModelName."""
        if len(text) > NAME.limit:
            raise InvalidModelName
        _, scheme, text = text.strip().rpartition("://")
        slash, colon = text.rfind("/"), text.rfind(":")
        path, tag = (text[:colon], text[colon + 1 :]) if colon > slash else (text, DEFAULT_TAG)
        *above, model = path.split("/")
        host = above.pop(0) if len(above) > 1 or (above and scheme) else DEFAULT_HOST
        return cls(host, "/".join(above) if above else DEFAULT_NAMESPACE, model, tag)

    @classmethod
    def of_path(cls, path: PurePath) -> "Name":
        """The name whose manifest lies at a path below `manifests/`; raises InvalidModelName."""
        host, *namespaces, model, tag = path.parts if len(path.parts) >= 4 else ("",) * 4
        return cls(host.replace("%3A", ":"), "/".join(namespaces), model, tag)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace (or several, joined by "/"), model, tag."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of its manifest below `manifests/`, and its file."""
        return self.host.replace(":", _COLON), *self.namespace.split("/"), self.model, self.tag

    @property
    def path(self) -> PurePath:
        """Where its manifest lies below `manifests/`."""
        return PurePath(*self.folders)

    @property
    def display_shortest(self) -> str:
        """The name as people see it: without the default host and namespace, always with its tag."""
        if self.host.lower() != DEFAULT_HOST:
            return str(self)
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Name):
            return NotImplemented
        return str(self).lower() == str(other).lower()

    def __hash__(self) -> int:
        return hash(str(self).lower())
