"""A name as somebody asked for it: with a scheme perhaps, by who may ask whom, and with what to say who we are."""

from dataclasses import dataclass

from serow.errors import InvalidModelName, RequestError
from serow.registries.credentials import Login
from serow.store.name import Name

_CATALOG = "pypi:"  # before a name that the package index is asked for first


@dataclass(frozen=True)
class Asked:
    """What is to be pulled or pushed. `is_local`: who asks is on this machine; `rate` in bytes a second, 0 is no limit."""

    name: Name
    is_catalog: bool = False
    insecure: bool = False
    is_local: bool = False
    login: Login | None = None
    rate: int = 0

    @classmethod
    def parse(
        cls, text: str, *, insecure: bool = False, is_local: bool = False, login: Login | None = None, rate: int = 0
    ) -> "Asked":
        """Read a name; raises InvalidModelName, and RequestError for one that can't be had (LIB-01, LIB-02)."""
        text = text.strip()
        is_catalog = text.startswith(_CATALOG)
        text = text.removeprefix(_CATALOG)
        scheme, separator, _ = text.partition("://")
        if separator and scheme.lower() not in ("http", "https"):
            raise InvalidModelName
        if separator and scheme.lower() == "http" and not insecure:
            raise RequestError("insecure protocol http", hint="use https, or --insecure")
        name = Name.parse(text)
        if name.tag.lower() == "cloud" or name.tag.lower().endswith("-cloud"):
            raise RequestError(f"{name.display_shortest} runs on the machines of ollama.com: this server runs models itself")
        return cls(name, is_catalog, insecure, is_local, login, rate)

    @property
    def repository(self) -> str:
        """Namespace and model, as a registry's paths have them."""
        return f"{self.name.namespace}/{self.name.model}"
