"""What a registry is sent that wants to know who we are."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from serow.errors import RegistryRefused
from serow.library.pull import Pulls
from serow.registries import signature
from serow.registries.credentials import Login

from .conftest import Registry, asked, pulled


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "default_path", lambda: tmp_path / "home" / "id_ed25519")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))


class Doorman:
    """A registry that lets in who has a token; its token server is at `/v2/token/manifests/x`."""

    def __init__(self, registry: Registry, field: str = "token", lasts: int = 300) -> None:
        self.registry = registry
        self.field = field
        self.lasts = lasts
        self.tokens: list[tuple[dict[str, str], str]] = []  # query and Authorization of each request for one
        self.seen: list[str] = []
        self.realm = f"http://{registry.host}/v2/token/manifests/x?kept=1"
        registry.trick = self

    def __call__(self, request: web.Request, data: bytes) -> web.Response | None:
        sent = request.headers.get("Authorization", "")
        if "/token/" in request.path:
            self.tokens.append((dict(parse_qsl(request.query_string)), sent))
            return web.json_response({self.field: f"t{len(self.tokens)}", "expires_in": self.lasts})
        self.seen.append(sent)
        if sent == f"Bearer t{len(self.tokens)}":
            return None
        challenge = f'Bearer realm="{self.realm}",service="zoo",scope="repository:zoo/tiny:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})


@pytest.mark.req("LIB-15", "LIB-16")
@pytest.mark.parametrize("field", ["token", "access_token"])
async def test_a_token_is_asked_for_with_our_signature_and_sent_with_every_part(
    registry: Registry, pulls: Pulls, field: str
) -> None:
    registry.model("zoo/tiny", b"x" * 1000)
    doorman = Doorman(registry, field)
    await pulled(pulls, asked(registry))
    ((query, sent),) = doorman.tokens
    assert list(query) == ["kept", "nonce", "scope", "service", "ts"] and query["scope"] == "repository:zoo/tiny:pull"
    assert len(query["nonce"]) == 22
    assert [len(base64.b64decode(part)) for part in sent.split(":")] == [51, 64]
    assert doorman.seen[0] == "" and set(doorman.seen[1:]) == {"Bearer t1"} and len(doorman.seen) == 5


@pytest.mark.req("LIB-15", "LIB-17")
async def test_a_name_and_password_go_to_the_registrys_own_realm(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x")
    doorman = Doorman(registry)
    await pulled(pulls, asked(registry, login=Login("zoo", "pass")))
    assert [sent for _, sent in doorman.tokens] == [Login("zoo", "pass").basic]


@pytest.mark.req("LIB-15")
async def test_a_second_refusal_is_the_last(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x")
    doorman = Doorman(registry)
    refuse: Any = doorman.__call__
    registry.trick = lambda request, data: (
        refuse(request, data) or (web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{doorman.realm}"'}))
    )
    with pytest.raises(RegistryRefused, match="unauthorized: access denied"):
        await pulled(pulls, asked(registry))


@pytest.mark.req("LIB-15", "LIB-16")
async def test_nothing_is_sent_to_a_realm_elsewhere(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x")
    doorman = Doorman(registry)
    doorman.realm = doorman.realm.replace("127.0.0.1", "localhost")
    host = registry.host
    words = f'realm host "localhost:{host.partition(":")[2]}" does not match original host "{host}"'
    with pytest.raises(RegistryRefused, match=f"^pull model manifest: {words}$"):
        await pulled(pulls, asked(registry, login=Login("zoo", "pass")))
    assert doorman.tokens == []


@pytest.mark.req("LIB-17")
async def test_basic_is_understood(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x")
    right = Login("zoo", "pass").basic
    challenge = {"WWW-Authenticate": 'Basic realm="zoo"'}
    registry.trick = lambda request, data: (
        None if request.headers.get("Authorization") == right else web.Response(status=401, headers=challenge)
    )
    await pulled(pulls, asked(registry, login=Login("zoo", "pass")))
    with pytest.raises(RegistryRefused, match="unauthorized: access denied") as caught:
        await pulled(pulls, asked(registry, "zoo/tiny", login=Login("zoo", "wrong")))
    assert "wrong" not in str(caught.value)


@pytest.mark.req("LIB-14")
async def test_what_we_are_stays_with_the_registry(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x" * 100)
    elsewhere = registry.host.replace("127.0.0.1", "localhost")
    doorman, seen = Doorman(registry), []

    def redirecting(request: web.Request, data: bytes) -> web.StreamResponse | None:
        if data and request.host == elsewhere:
            seen.append(request.headers.get("Authorization"))
            return None
        answer = doorman(request, data)
        if data and answer is None:
            return web.Response(status=302, headers={"Location": f"http://{elsewhere}{request.path}"})
        return answer

    registry.trick = redirecting
    await pulled(pulls, asked(registry))
    assert seen and set(seen) == {None}
