"""Which addresses belong to this machine or to a network of its own, and may not be asked because somebody outside says so."""

import ipaddress

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal(host: str) -> _Ip | None:
    """The IP address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet: loopback, private, link-local, CGNAT, multicast ones are not.

    An IPv6 address that carries an IPv4 address is judged by that.
    """
    ip = literal(address)
    return ip is not None and all(each.is_global and not each.is_multicast for each in (ip, *_embedded(ip)))


def _embedded(ip: _Ip) -> list[_Ip]:
    """The IPv4 addresses within an IPv6 address: mapped, 6to4, Teredo, NAT64."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found: list[_Ip | None] = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64:
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
