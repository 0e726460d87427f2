"""Names and addresses of machines: which are this one's, and which clients are one."""

import ipaddress
import re
import socket

from starlette.types import Scope

_HOST = re.compile(r"(?P<name>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LOCAL_ENDING = ".localhost"
_FROM_CONTAINERS = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal", "host.lima.internal")


def hostname_of(host: str) -> str:
    """The name in a Host header, in lower case, without port and brackets. Raises ValueError for what is none."""
    match = _HOST.fullmatch(host.lower())
    if match is None:
        raise ValueError("no host")
    return match["name"].strip("[]").removesuffix(".")


def is_local_name(name: str) -> bool:
    """Whether a host name is an address or stands for this machine wherever it is asked for.

    A name below `.local` or `.internal` is anybody's who answers in the network: of those only this machine's own is
    local, and those by which containers call the machine they run on.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(_LOCAL_ENDING) or name in _FROM_CONTAINERS or name in _own_names()
    return True


def _own_names() -> set[str]:
    own = socket.gethostname().lower()
    return {own, f"{own.partition('.')[0]}.local"}


def client_of(scope: Scope) -> str:
    """Who asks: `state.client` once a key has been looked for, until then the address; "" where there is none."""
    address = scope["client"][0] if scope.get("client") else ""
    return str(scope.get("state", {}).get("client", address))


def network_of(address: str) -> str:
    """Who has an address: in IPv6 one customer has a whole /64."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return address
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))
