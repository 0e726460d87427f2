"""What an index may not do to us (CVE-2026-5530, CVE-2024-12886, CVE-2025-51471)."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from serow.errors import PullError
from serow.registries.package_index.fetch import MAX_REDIRECTS, Fetcher, connect, is_private
from serow.registries.package_index.pip_config import PipConfig

LIMIT = 1000


@pytest_asyncio.fixture
async def odd() -> AsyncIterator[TestServer]:
    """An index that redirects anywhere, compresses, and repeats the credentials that it was given."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.query["to"])

    async def loop(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"/loop?{int(request.query_string or 0) + 1}")

    async def compressed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    async def large(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(LIMIT + 1))

    async def whoami(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.headers.get("Authorization", "nobody"))

    app = web.Application()
    for path, handler in (("/to", redirect), ("/loop", loop), ("/gzip", compressed), ("/large", large), ("/whoami", whoami)):
        app.router.add_get(path, handler)
    server = TestServer(app)
    async with server:
        yield server


async def page(server: TestServer, path: str, index: str = "") -> str:
    async with connect(index or str(server.make_url("/")), PipConfig()) as fetcher:
        found = await fetcher.page(str(server.make_url(path)), "text/html", LIMIT)
    assert found is not None
    return found[2].decode()


@pytest.mark.parametrize(
    "address, expected",
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("fd00::1", True),
        ("::ffff:192.168.0.1", True),
        ("151.101.0.223", False),
        ("2a04:4e42::223", False),
    ],
)
def test_private_addresses_are_told_from_public_ones(address: str, expected: bool) -> None:
    assert is_private(address) is expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://169.254.169.254/latest/meta-data"])
async def test_a_public_index_does_not_lead_into_a_private_network(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        fetcher = Fetcher(session, "http://index.example/simple", is_index_private=False)
        with pytest.raises(PullError, match="private network"):
            await fetcher.page(url, "text/html", LIMIT)


async def test_a_name_that_stands_for_a_private_address_is_not_connected_to(odd: TestServer) -> None:
    async with connect("http://203.0.113.1.invalid/simple", PipConfig()) as fetcher:
        with pytest.raises(aiohttp.ClientConnectorError):
            await fetcher.page(f"http://localhost:{odd.port}/whoami", "text/html", LIMIT)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/x", "https:///x"])
async def test_a_redirect_leads_to_http_only(odd: TestServer, target: str) -> None:
    with pytest.raises(PullError, match="not allowed"):
        await page(odd, f"/to?to={target}")


async def test_a_redirect_does_not_fall_back_from_https_to_http() -> None:
    async with aiohttp.ClientSession() as session:
        fetcher = Fetcher(session, "https://index.example/simple", is_index_private=True)
        with pytest.raises(PullError, match="not allowed"):
            await fetcher.page("http://index.example/simple/x/", "text/html", LIMIT)


async def test_redirects_are_followed_up_to_a_bound(odd: TestServer) -> None:
    assert await page(odd, "/to?to=/whoami") == "nobody"
    with pytest.raises(PullError, match="redirects too often"):
        await page(odd, "/loop")
    assert MAX_REDIRECTS == 5


async def test_nothing_is_decompressed(odd: TestServer) -> None:
    with pytest.raises(PullError, match="compresses"):
        await page(odd, "/gzip")


async def test_a_page_is_read_up_to_a_bound(odd: TestServer) -> None:
    with pytest.raises(PullError, match="too large"):
        await page(odd, "/large")


async def test_credentials_go_to_the_index_only(odd: TestServer) -> None:
    with_user = str(odd.make_url("/").with_user("ada").with_password("secret"))
    assert (await page(odd, "/whoami", with_user)).startswith("Basic ")
    assert await page(odd, f"/to?to=http://localhost:{odd.port}/whoami", with_user) == "nobody"
