"""Who may be asked, and how (LIB-02 to LIB-04): what the settings and the environment say about the world outside."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from serow.errors import Offline
from serow.registries.proxies import Proxies
from serow.settings import Settings

_HF_HOSTS = ("hf.co", "huggingface.co")
_KNOWN_REALMS = {
    "docker.io": "auth.docker.io",
    "registry-1.docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
    "hf.co": "huggingface.co",
    "huggingface.co": "hf.co",
}
_ALIASES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Access:
    """The settings that every outside call obeys."""

    allowed: tuple[str, ...] = ()  # hosts in private networks that may be asked, or "*"
    mirrors: Mapping[str, str] = field(default_factory=dict)  # URL by host
    realms: Mapping[str, str] = field(default_factory=dict)  # host of the tokens by host of the registry
    offline: bool = False
    proxies: Proxies = field(default_factory=Proxies)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, settings: Settings, environ: Mapping[str, str] = os.environ) -> "Access":
        """What a server with these settings may ask."""
        mirrors = dict(settings.mirrors)
        if environ.get("HF_ENDPOINT"):
            for host in _HF_HOSTS:
                mirrors.setdefault(host, environ["HF_ENDPOINT"])
        allowed = tuple(host.lower() for host in settings.registries)
        return cls(allowed, mirrors, dict(settings.realms), settings.offline, Proxies.load(environ), environ)

    def require_online(self, what: str) -> None:
        """Raise Offline when nothing outside may be asked."""
        if self.offline:
            raise Offline(f"offline: {what} would have to be asked", hint="unset SEROW_OFFLINE and HF_HUB_OFFLINE")

    def admits(self, host: str, port: int | None = None) -> bool:
        """Whether a host may be asked although it is in a private network."""
        return "*" in self.allowed or host.lower() in self.allowed or f"{host.lower()}:{port}" in self.allowed

    def is_realm_of(self, realm: str, registry: str) -> bool:
        """Whether a host is known to give out the tokens of a registry."""
        return realm.lower() in (self.realms.get(registry.lower()), _KNOWN_REALMS.get(registry.lower()))

    def mirror(self, host: str) -> str:
        """What is asked before a host; "" when there is none."""
        return self.mirrors.get(host.lower(), "").rstrip("/")


def address_of(host: str) -> str:
    """Where a registry is really asked, for the few whose names say something else."""
    return _ALIASES.get(host.lower(), host)
