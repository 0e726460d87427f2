"""Where a model of another machine is: `vllm://HOST[:PORT][,HOST[:PORT]…]/NAME`, `vllms://` with TLS (REM-01)."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serow.errors import Offline, RequestError

SCHEMES = {"vllm": "http", "vllms": "https"}
DEFAULT_PORT = 8000  # vLLM's own
MOST_ADDRESSES = 16
_LONGEST = 2048  # characters of all addresses
_LONGEST_NAME = 256
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?))(?::(\d{1,5}))?", re.ASCII)
_HINT = "FROM vllm://HOST:PORT/NAME, or vllms:// with TLS"


@dataclass(frozen=True)
class Address:
    """One engine, or a router before many."""

    scheme: str  # http or https
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"{self.scheme}://{self}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine by its name or number."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def is_among(self, hosts: Sequence[str]) -> bool:
        """Whether one of these, HOST or HOST:PORT, names it."""
        return any(each.lower() in (self.host, str(self)) for each in hosts)


def is_remote(text: str) -> bool:
    """Whether a FROM line or `remote_host` names an engine of ours."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def split(text: str) -> tuple[str, str]:
    """`remote_host` and `remote_model` of a FROM line; raises RequestError."""
    scheme, _, rest = text.partition("://")
    hosts, _, name = rest.partition("/")
    host = f"{scheme.lower()}://{hosts}"
    addresses_of(host)
    check_name(name)
    return host, name


def check_name(name: str) -> None:
    """Refuse what no engine calls a model; raises RequestError."""
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise RequestError("the address of a model must end with the name that its engine has for it", hint=_HINT)


def addresses_of(remote_host: str) -> tuple[Address, ...]:
    """The addresses of `vllm://a:8000,b:8000`, in order; raises RequestError."""
    scheme, separator, hosts = remote_host.partition("://")
    if not separator or scheme not in SCHEMES or len(hosts) > _LONGEST:
        schemes = " or ".join(f"{each}://" for each in SCHEMES)
        raise RequestError(f"the address of an engine must begin with {schemes}", hint=_HINT)
    found = tuple(_addresses(SCHEMES[scheme], hosts))
    if len(found) > MOST_ADDRESSES:
        raise RequestError(f"a model has at most {MOST_ADDRESSES} addresses", hint="name a router that stands before them")
    return found


def _addresses(scheme: str, hosts: str) -> Iterator[Address]:
    for text in hosts.split(","):
        match = _HOST.fullmatch(text.strip())
        port = int(match[3]) if match and match[3] else DEFAULT_PORT
        if match is None or not 0 < port < 65536:
            raise RequestError("the address of an engine must be HOST or HOST:PORT, without path, user or query", hint=_HINT)
        yield Address(scheme, (match[1] or match[2]).lower(), port)


def check_allowed(addresses: Sequence[Address], remotes: Sequence[str], *, is_offline: bool = False) -> None:
    """Refuse an address that is neither of this machine nor in SEROW_REMOTES; raises RequestError, Offline."""
    for each in addresses:
        if is_offline and not each.is_loopback:
            raise Offline(f"offline: the engine at {each} is not asked", hint="unset SEROW_OFFLINE")
        if not each.is_loopback and not each.is_among(remotes):
            raise RequestError(
                f"this server may not speak to the engine at {each}", hint=f"its operator can allow it: SEROW_REMOTES={each}"
            )


def key_of(address: Address, keys: Sequence[tuple[str, str]]) -> str:
    """The key for this engine alone, "" for none."""
    return next((key for host, key in keys if address.is_among([host])), "")
