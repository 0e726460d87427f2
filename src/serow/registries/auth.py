"""Tokens and passwords: what a registry is sent after it has answered 401 (LIB-15 to LIB-17)."""

import asyncio
import base64
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec
from msgspec import Struct

from serow.errors import RegistryError, RegistryRefused
from serow.registries import challenge, credentials, signature
from serow.registries.challenge import Challenge
from serow.registries.credentials import Login
from serow.registries.http import Client, origin

_TOKEN_LIMIT = 1 << 20  # bytes
_ANONYMOUS_STATUSES = (400, 401, 403)
DENIED = "unauthorized: access denied"


class _Token(Struct):
    """A token server's answer."""

    token: str = ""
    access_token: str = ""


class Authorizer:
    """Says who we are to one registry. `login` comes from the request; without one the user's own accounts are asked."""

    def __init__(self, client: Client, login: Login | None, *, key_path: Path | None = None) -> None:
        self._client = client
        self._login = login
        self._has_looked = login is not None
        self._key_path = key_path or signature.default_path()
        self._header: str | None = None
        self._home = ""
        self._refreshing = asyncio.Lock()
        client.authorization = self.headers

    def headers(self, url: str) -> Mapping[str, str]:
        """What a request to `url` carries: something for the registry's own origin, nothing for another."""
        is_home = self._header is not None and origin(url) == origin(self._home)
        return {"Authorization": self._header} if is_home and self._header else {}

    async def prepare(self, base: str) -> None:
        """Begin with a token for Hugging Face where there is one."""
        self._home = base
        if self._header is None and (token := credentials.hugging_face_token(self._client.host, self._client.access.environ)):
            self._header = f"Bearer {token}"

    async def answer(self, sent: str, headers: Iterable[str]) -> None:
        """Get what the challenges of a 401 ask for. `sent`: the header that was refused.

        Those who come at the same time share one refresh. Raises RegistryRefused, RegistryError.
        """
        async with self._refreshing:
            if self._header is not None and self._header != sent:
                return  # another one has renewed it meanwhile
            self._header = None  # what was refused is not sent to the token server either
            self._header = await self._obtain(challenge.parse(headers))

    async def _obtain(self, challenges: list[Challenge]) -> str:
        for each in challenges:
            if each.scheme == "bearer" and each.parameters.get("realm"):
                return await self._bearer(each.parameters)
        if any(each.scheme == "basic" for each in challenges):
            return await self._basic()
        raise RegistryRefused(DENIED)

    async def _basic(self) -> str:
        login = await self._account()
        if login is None:
            raise RegistryRefused(DENIED, hint=f"log in first: docker login {self._client.host}")
        return login.basic

    async def _account(self) -> Login | None:
        if not self._has_looked:
            self._login, self._has_looked = await credentials.find(self._client.host, self._client.access.environ), True
        return self._login

    async def _bearer(self, asked: Mapping[str, str]) -> str:
        realm = asked["realm"]
        try:
            parts = urlsplit(realm)
            is_own = origin(realm)[1:] == origin(self._home)[1:]
        except ValueError:
            raise RegistryError(f"{self._client.host} names a token server that is no address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RegistryError(f"{self._client.host} names a token server that is no address")
        if parts.scheme == "http" and origin(self._home)[0] == "https":
            raise RegistryError(f"{self._client.host} names a token server without TLS")
        is_known = self._client.access.is_realm_of(parts.hostname, self._client.host)
        if not (is_own or is_known or parts.scheme == "https"):
            raise RegistryRefused(f'realm host "{parts.netloc}" does not match original host "{self._client.host}"')
        login = await self._account() if is_own or is_known else None
        query = _query(parts.query, asked)
        if login is not None:
            return await self._fetch(realm, query, login.basic)
        if is_own or self._signs_for(parts.hostname):
            return await self._signed(realm, query)
        return await self._fetch(realm, query, "")

    def _signs_for(self, realm: str) -> bool:
        """Hugging Face's two names are one host."""
        return {realm.lower(), self._client.host.lower()} <= {"hf.co", "huggingface.co"}

    async def _signed(self, realm: str, query: list[tuple[str, str]]) -> str:
        """Ollama's form; where its signature is not understood, a token for nobody."""
        key = await asyncio.to_thread(signature.load, self._key_path)
        nonce = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        signed = sorted([*query, ("nonce", nonce), ("ts", str(int(time.time())))])
        try:
            return await self._fetch(realm, signed, key.authorization(_url(realm, signed)))
        except RegistryRefused:
            return await self._fetch(realm, query, "")

    async def _fetch(self, realm: str, query: list[tuple[str, str]], authorization: str) -> str:
        headers = {"Authorization": authorization} if authorization else {}
        async with self._client.open("GET", _url(realm, query), headers) as answer:
            if answer.status in _ANONYMOUS_STATUSES:
                raise RegistryRefused(DENIED)
            if answer.status != 200:
                raise RegistryError(f"the token server of {self._client.host} answers with status {answer.status}")
            data = await self._client.read(answer, _TOKEN_LIMIT, "the token")
        try:
            found = msgspec.json.decode(data, type=_Token)
        except msgspec.MsgspecError:
            raise RegistryError(f"the token server of {self._client.host} answers with no token") from None
        token = found.token or found.access_token
        if not token or not token.isprintable():
            raise RegistryError(f"the token server of {self._client.host} answers with no token")
        return f"Bearer {token}"


def _query(existing: str, asked: Mapping[str, str]) -> list[tuple[str, str]]:
    """The realm's own query, the service, and a scope for each word; keys sorted."""
    pairs = parse_qsl(existing, keep_blank_values=True)
    pairs += [("service", asked["service"])] if asked.get("service") else []
    pairs += [("scope", scope) for scope in asked.get("scope", "").split()]
    return sorted(pairs)


def _url(realm: str, query: list[tuple[str, str]]) -> str:
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    return urlsplit(realm)._replace(query=text, fragment="").geturl()
