"""The places that may have a model of a name, in the order in which they are asked: a mirror, then the registry (LIB-04)."""

from urllib.parse import urlsplit

from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.base import Place
from serow.registries.http import Client
from serow.registries.oci import OciRegistry


def places(asked: Asked, access: Access) -> list[Place]:
    """Where to ask for a model."""
    found: list[Place] = []
    if mirror := access.mirror(asked.name.host):
        host = urlsplit(mirror).netloc.rpartition("@")[2]
        found.append(OciRegistry(Client(access, host, is_trusted=True, base=mirror), asked.repository, asked.name.tag))
    return [*found, registry(asked, access)]


def registry(asked: Asked, access: Access) -> OciRegistry:
    """The registry that a name says."""
    client = Client(access, asked.name.host, is_trusted=asked.is_local, insecure=asked.insecure)
    return OciRegistry(client, asked.repository, asked.name.tag, asked.login)
