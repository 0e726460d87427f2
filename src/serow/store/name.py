"""Names of models: where they come from, what they are called, which variant.

Grammar, as Ollama's types/model/name.go has it (white space around the whole is dropped):

    name       = [ [ scheme "://" ] host "/" ] [ namespace "/" ] model [ ":" tag ]
    host       = first { alphanumeric | "_" | "-" | "." | ":" }    1 to 255 characters; ":" parts a port
    namespace  = first { alphanumeric | "_" | "-" }                1 to 80
    model, tag = first { alphanumeric | "_" | "-" | "." }          1 to 80
    first      = alphanumeric | "_"                                ASCII only

A part that is absent is `registry.ollama.ai`, `library`, `latest`; a part that is empty (`smollm2:`) is a fault. So no part
can be `..`, hold a separator or be longer than file systems take (Ollama's host goes up to 350), and a Name is safe as a path.
Names compare without regard to case.
"""

import re
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


@dataclass(frozen=True, eq=False)
class Name:
    """A complete name; every part is valid. Compared and hashed without regard to case."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        """Refuse a part that the grammar does not allow; raises InvalidModelName."""
        patterns = (_HOST, _NAMESPACE, _MODEL, _MODEL)
        if not all(pattern.fullmatch(part) for pattern, part in zip(patterns, self.parts, strict=True)):
            raise InvalidModelName

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Read a name and fill in the defaults; raises InvalidModelName."""
        if len(text) > NAME.limit:
            raise InvalidModelName
        text = text.strip()
        slash, colon = text.rfind("/"), text.rfind(":")
        path, tag = (text[:colon], text[colon + 1 :]) if colon > slash else (text, DEFAULT_TAG)
        *above, model = path.rsplit("/", 2)
        namespace = above[-1] if above else DEFAULT_NAMESPACE
        host = above[0].rpartition("://")[2] if len(above) == 2 else DEFAULT_HOST
        return cls(host, namespace, model, tag)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model, tag."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def path(self) -> PurePath:
        """Where its manifest lies below `manifests/`."""
        return PurePath(*self.parts)

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
