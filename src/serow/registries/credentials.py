"""Names and passwords for registries, from where docker, podman and huggingface_hub keep them (LIB-17).

What is found is never logged, and goes to the registry that it was kept for only.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LIMIT = 4 << 20  # bytes of a file of accounts
_HELPER_DEADLINE = 10.0  # seconds
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HF_HOSTS = ("huggingface.co", "hf.co")


@dataclass(frozen=True)
class Login:
    """An account at a registry."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The Authorization header."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


async def find(host: str, environ: Mapping[str, str]) -> Login | None:
    """The account that this user's tools have for a registry; None when there is none."""
    for path in _files(environ):
        kept = await asyncio.to_thread(_read, path)
        login = await _from_file(host, kept) if kept else None
        if login is not None:
            return login
    return None


def hugging_face_token(host: str, environ: Mapping[str, str]) -> str:
    """The token for Hugging Face; "" for every other host, and when there is none."""
    if host.lower() not in _HF_HOSTS:
        return ""
    if environ.get("HF_TOKEN"):
        return environ["HF_TOKEN"].strip()
    home = Path(environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    path = Path(environ.get("HF_TOKEN_PATH") or home / "token")
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(1000).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"


def _read(path: Path) -> dict[str, Any]:
    """A file of accounts; one that is not there or is broken holds none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _keys(host: str) -> tuple[str, ...]:
    """What a registry is called in such files."""
    hub = (_DOCKER_HUB, *_DOCKER_HOSTS) if host in _DOCKER_HOSTS else ()
    return (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/", *hub)


async def _from_file(host: str, kept: Mapping[str, Any]) -> Login | None:
    helpers, auths = _table(kept, "credHelpers"), _table(kept, "auths")
    for key in _keys(host):
        if isinstance(helper := helpers.get(key), str):
            return await _ask(helper, key)
    for key in _keys(host):
        if isinstance(entry := auths.get(key), dict) and (login := _from_entry(entry)) is not None:
            return login
    store = kept.get("credsStore")
    for key in _keys(host) if isinstance(store, str) else ():
        if (key in auths or key == host) and (login := await _ask(str(store), key)) is not None:
            return login
    return None


def _table(kept: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = kept.get(name)
    return found if isinstance(found, dict) else {}


def _from_entry(entry: Mapping[str, Any]) -> Login | None:
    if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
        return Login("<token>", entry["identitytoken"])
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            username, separator, password = base64.b64decode(auth).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return Login(username, password.rstrip("\x00")) if separator else None
    name, secret = entry.get("username"), entry.get("password")
    return Login(name, secret) if isinstance(name, str) and isinstance(secret, str) else None


async def _ask(helper: str, key: str) -> Login | None:
    """What a credential helper of docker's says; None when it fails or takes too long."""
    if not _HELPER.fullmatch(helper):
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_HELPER_DEADLINE):
            output, _ = await process.communicate(key.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    try:
        found = json.loads(output[:_LIMIT])
        return Login(str(found["Username"]), str(found["Secret"])) if process.returncode == 0 else None
    except (ValueError, KeyError, TypeError):
        return None
