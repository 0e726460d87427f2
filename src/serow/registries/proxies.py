"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name.lower()) or environ.get(name) or "").strip()


@dataclass(frozen=True)
class Proxies:
    """The proxies of an environment."""

    https: str = ""
    http: str = ""
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Proxies":
        """Read them; HTTP_PROXY counts in lower case only where a web server could set it for us (CVE-2016-5385)."""
        every = _variable(environ, "ALL_PROXY")
        http = environ.get("http_proxy", "") if "REQUEST_METHOD" in environ else _variable(environ, "HTTP_PROXY")
        no_proxy = tuple(part for part in _variable(environ, "NO_PROXY").replace(",", " ").lower().split() if part)
        return cls(_with_scheme(_variable(environ, "HTTPS_PROXY") or every), _with_scheme(http or every), no_proxy)

    def for_url(self, url: str) -> str | None:
        """The proxy of a request; None when it goes straight."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").lower()
        return proxy if proxy and not self._is_exempt(host, parts.port or _PORTS.get(parts.scheme, 0)) else None

    @property
    def shown(self) -> str:
        """The proxies as they may be logged, without passwords; "" when there is none."""
        return ", ".join(dict.fromkeys(_masked(proxy) for proxy in (self.https, self.http) if proxy))

    def _is_exempt(self, host: str, port: int) -> bool:
        return host == "localhost" or _is_loopback(host) or any(_fits(entry, host, port) for entry in self.no_proxy)


def _with_scheme(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _masked(proxy: str) -> str:
    parts = urlsplit(proxy)
    user = f"{parts.username}:***@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fits(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY is for a host: `*`, a name and those below it, an address, a CIDR; each may have a port."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and not name.endswith(":"):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    return host == entry.removeprefix(".") or host.endswith(f".{entry.removeprefix('.')}")
