"""The places that may have a model of a name, in the order in which they are asked: a mirror, then the registry (LIB-04)."""

from urllib.parse import urlsplit

from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.base import Place
from serow.registries.http import Client
from serow.registries.huggingface import HubRepository
from serow.registries.oci import OciRegistry

_HUBS = ("hf.co", "huggingface.co", "modelscope.cn")


def places(asked: Asked, access: Access) -> list[list[Place]]:
    """Where to ask for a model: hosts in order, each by one way or two."""
    found: list[list[Place]] = []
    if mirror := access.mirror(asked.name.host):
        host = urlsplit(mirror).netloc.rpartition("@")[2]
        client = Client(access, host, is_trusted=True, base=mirror)
        found.append(_with_hub(asked, OciRegistry(client, asked.repository, asked.name.tag)))
    return [*found, _with_hub(asked, registry(asked, access))]


def _with_hub(asked: Asked, oci: OciRegistry) -> list[Place]:
    """A registry, and behind it the Hub's own API where that is spoken."""
    return [oci, HubRepository(oci)] if asked.name.host.lower() in _HUBS else [oci]


def registry(asked: Asked, access: Access) -> OciRegistry:
    """The registry that a name says."""
    client = Client(access, asked.name.host, is_trusted=asked.is_local, insecure=asked.insecure)
    return OciRegistry(client, asked.repository, asked.name.tag, asked.login)
