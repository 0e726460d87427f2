"""Which routes ask for a key, and for which scope."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from serow.errors import RequestError
from serow.keys import KeyFile, Keyring
from serow.keys import Scope as KeyScope
from serow.server.app import create_app
from serow.server.guard import RequireKey
from serow.server.handlers import blobs, models, upkeep
from serow.server.operation import Operation
from serow.server.routes import OPERATIONS
from serow.settings import SettingError, Settings

GIVEN = "a key with every scope"
NOTHING = "sha256:" + "0" * 64
READING = {"/api/tags", "/api/ps", "/api/show"}


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "serow-keys.json")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that knows one key from its environment."""
    app = create_app(Settings(models=tmp_path, api_keys=(GIVEN,)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/tags"),
        ("HEAD", "/api/tags"),
        ("POST", "/api/generate"),
        ("HEAD", f"/api/blobs/{NOTHING}"),
        ("POST", f"/api/blobs/{NOTHING}"),
        ("DELETE", "/api/delete"),
        ("GET", "/no/such/page"),
        ("PATCH", "/api/generate"),
        ("OPTIONS", "/api/generate"),
        ("GET", "/x//y"),
        ("GET", "/api/version/"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong"), bearer(""), {"Authorization": GIVEN}, {"Authorization": f"Basic {GIVEN}"}],
    ids=["none", "wrong", "empty", "no scheme", "another scheme"],
)
async def test_without_a_valid_key_every_route_answers_401(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert method == "HEAD" or answer.json()["error"].startswith("unauthorized")


@pytest.mark.parametrize("path", ["/", "/api/version"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_whether_a_server_is_there_is_told_without_a_key(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path)).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Bearer "])
async def test_a_key_opens_the_routes(client: httpx.AsyncClient, scheme: str) -> None:
    answer = await client.get("/api/tags", headers={"Authorization": f"{scheme} {GIVEN}"})
    assert (answer.status_code, answer.json()) == (200, {"models": []})
    assert (await client.get("/no/such/page", headers=bearer(GIVEN))).status_code == 404


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_a_key_opens_the_routes_in_the_headers_of_other_apis_too(client: httpx.AsyncClient, header: str) -> None:
    assert (await client.get("/api/tags", headers={header: GIVEN, "Authorization": "Bearer "})).status_code == 200
    assert (await client.get("/api/tags", headers={header: "wrong"})).status_code == 401


async def test_a_wrong_key_and_a_missing_one_are_told_apart(client: httpx.AsyncClient) -> None:
    missing, wrong = await client.get("/api/tags"), await client.get("/api/tags", headers=bearer("wrong"))
    assert missing.json()["error"].startswith("unauthorized: an API key is needed")
    assert wrong.json()["error"] == "unauthorized: this API key is not valid here"


async def test_the_log_names_the_owner_of_a_key_that_lacks_the_scope(
    client: httpx.AsyncClient, file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    headers = bearer(file.create("reader", (KeyScope.INFER,)))
    with caplog.at_level(logging.INFO, "serow.request"):
        await client.post("/api/pull", headers=headers, json={"model": "x"})
    assert [record.fields["client"] for record in caplog.records if hasattr(record, "fields")] == ["key reader"]


async def test_a_key_that_may_only_infer_gets_403_where_models_change(client: httpx.AsyncClient, file: KeyFile) -> None:
    headers = bearer(file.create("reader", (KeyScope.INFER,)))
    answer = await client.request("DELETE", "/api/delete", headers=headers, json={"model": "x"})
    assert (answer.status_code, answer.json()["error"]) == (403, 'forbidden: this API key lacks the scope "manage"')
    assert (await client.get("/api/tags", headers=headers)).status_code == 200


async def test_a_key_that_may_only_manage_does_not_generate(client: httpx.AsyncClient, file: KeyFile) -> None:
    headers = bearer(file.create("deploy", (KeyScope.MANAGE,)))
    assert (await client.post("/api/generate", headers=headers, json={"model": "x"})).status_code == 403
    assert (await client.request("DELETE", "/api/delete", headers=headers, json={"model": "x"})).status_code == 404


KEEPERS = (blobs.__name__, models.__name__, upkeep.__name__)


def test_every_route_that_changes_models_is_managed() -> None:
    managed = {operation.path for operation in OPERATIONS if operation.scope is KeyScope.MANAGE}
    assert managed == {operation.path for operation in OPERATIONS if operation.handler.__module__ in KEEPERS} - READING


def test_a_route_without_a_scope_does_not_start() -> None:
    with pytest.raises(TypeError, match="scope"):
        Operation(method="GET", path="/", handler=models.tags, summary="x")  # type: ignore[call-arg]


def test_no_route_is_made_beside_the_table(tmp_path: Path) -> None:
    routes = create_app(Settings(models=tmp_path)).routes
    assert [route.name for route in routes] == [f"{each.method} {each.path}" for each in OPERATIONS]  # type: ignore[attr-defined]


async def test_a_key_that_may_only_infer_gets_403_with_a_slash_behind_the_path_too(
    client: httpx.AsyncClient, file: KeyFile
) -> None:
    headers = bearer(file.create("reader", (KeyScope.INFER,)))
    for path in ("/api/create/", f"/api/blobs/{NOTHING}"):
        assert (await client.post(path, headers=headers, follow_redirects=True)).status_code == 403


async def test_a_revoked_key_is_refused_at_once(client: httpx.AsyncClient, file: KeyFile) -> None:
    headers = bearer(file.create("laptop", tuple(KeyScope)))
    assert (await client.get("/api/tags", headers=headers)).status_code == 200
    file.revoke("laptop")
    assert (await client.get("/api/tags", headers=headers)).status_code == 401


async def test_a_broken_key_file_lets_nobody_in(client: httpx.AsyncClient, file: KeyFile) -> None:
    file.path.write_text("[")
    answer = await client.get("/api/tags", headers=bearer(GIVEN))
    assert (answer.status_code, answer.json()) == (500, {"error": "the key file is broken"})


async def test_a_preflight_passes_without_a_key_and_a_401_can_be_read_by_the_page(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "http://localhost:3000"}
    preflight = await client.options("/api/generate", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    refused = await client.post("/api/generate", headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["Origin"])


@pytest.mark.parametrize(
    ("key", "address", "client"),
    [(GIVEN, "10.0.0.1", "key SEROW_API_KEYS #1"), (None, "10.0.0.1", "10.0.0.1"), (None, "2001:db8::1", "2001:db8::1")],
)
@pytest.mark.req("LIFE-02")
async def test_who_asks_is_the_key_else_the_address(file: KeyFile, key: str | None, address: str, client: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["state"]["client"])(scope, receive, send)

    guarded = RequireKey(app, Keyring((key,) if key else (), file))
    transport = httpx.ASGITransport(guarded, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
        assert (await asking.get("/api/ps", headers=bearer(key) if key else {})).text == client


OPEN: list[dict[str, Any]] = [{"host": "127.0.0.1"}, {"host": "::1"}, {"host": "127.8.8.8"}, {"host": "localhost"}]
GUARDED: list[dict[str, Any]] = [{"host": "0.0.0.0", "api_keys": ("x",)}, {"host": "0.0.0.0", "allow_open": True}]


@pytest.mark.parametrize("values", OPEN + GUARDED)
def test_a_server_listens_where_nobody_comes_in_unasked(tmp_path: Path, values: dict[str, Any]) -> None:
    assert create_app(Settings(models=tmp_path, **values)).routes


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "box.local", "::ffff:0.0.0.0"])
def test_a_public_address_without_a_key_is_refused_with_a_hint(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingError, match="without a key everybody") as refused:
        create_app(Settings(models=tmp_path, host=host))
    assert "serow key create" in refused.value.hint and isinstance(refused.value, RequestError)


async def test_a_public_server_whose_key_file_vanishes_stays_closed(tmp_path: Path, file: KeyFile) -> None:
    file.create("laptop", tuple(KeyScope))
    app = create_app(Settings(models=tmp_path, host="0.0.0.0"))
    file.path.unlink()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/api/tags")).status_code == 401
