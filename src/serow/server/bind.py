"""Where the server may listen, and with what certificate: what is refused before it starts."""

import ipaddress
import ssl
import sys
from typing import Any

from serow.keys import Keyring
from serow.settings import SettingError, Settings

_FILES_BESIDE = 1024  # models, blobs, pipes and sockets of engines


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_be_open(settings: Settings) -> bool:
    """Whether the server may answer without a key."""
    return settings.allow_open or is_loopback(settings.host)


def require_key(settings: Settings, keyring: Keyring) -> None:
    """Raise SettingError when everybody who reaches the address could use the server."""
    if not may_be_open(settings) and not keyring.is_set:
        raise SettingError(
            f"without a key everybody who can reach {settings.host} could use this server",
            hint="make one: serow key create NAME; or set SEROW_API_KEYS; or SEROW_ALLOW_OPEN=1 if that is meant",
        )


def tls_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's arguments for HTTPS, none without a certificate. Raises SettingError for files that won't do."""
    if settings.tls_cert is None and settings.tls_key is None:
        return {}
    if settings.tls_cert is None or settings.tls_key is None:
        raise SettingError("TLS needs a certificate and its key", hint="set both SEROW_TLS_CERT and SEROW_TLS_KEY")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key, _no_passphrase)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "both are PEM files that the server can read, the key has no passphrase"
        raise SettingError(f"SEROW_TLS_CERT and SEROW_TLS_KEY can't be used: {reason}", hint=hint) from None
    return {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}


def _no_passphrase() -> str:
    """Never ask at the terminal."""
    raise ValueError("the key has a passphrase")


def allow_connections(number: int) -> None:
    """Raise the process's limit of open files, so that `number` clients and what we open for them have room."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
