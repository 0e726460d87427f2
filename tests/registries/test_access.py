"""Who may be asked, through which proxy, and what a name says of it."""

import asyncio
import base64
import json
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from serow.errors import InvalidModelName, RegistryError, RegistryRefused, RequestError
from serow.registries import credentials, ed25519, signature
from serow.registries.access import Access
from serow.registries.address import is_public
from serow.registries.asked import Asked
from serow.registries.challenge import Challenge, parse
from serow.registries.credentials import Login
from serow.registries.http import BROKEN, Client
from serow.registries.proxies import Proxies
from serow.settings import Settings
from serow.store.name import Name


@pytest.mark.req("LIB-03")
@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0"),
        *("::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1"),
    ],
)
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.req("LIB-03")
@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.req("LIB-03")
@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1", "0x7f.1:1", "[::ffff:10.0.0.1]", "169.254.169.254"])
async def test_a_remote_client_names_no_private_registry(host: str) -> None:
    async with Client(Access(), host, is_trusted=False) as client:
        with pytest.raises((RegistryRefused, OSError), match=r"registry \S+ is not allowed|not known"):
            async with client.open("GET", f"https://{host}/v2/"):
                pass


@pytest.mark.req("LIB-03")
async def test_a_registry_in_the_settings_may_be_asked_by_everybody() -> None:
    async with Client(Access(allowed=("127.0.0.1:9",)), "127.0.0.1:9", is_trusted=False) as client:
        with pytest.raises(OSError, match="Cannot connect"):
            async with client.open("GET", "https://127.0.0.1:9/v2/"):
                pass


@pytest.mark.req("LIB-14")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://example.com/", "from https to http"),
        ("https://user:pass@example.com/", "name or password"),
        ("ftp://example.com/", "address that is none"),
        ("https://exa mple:x/", "address that is none"),
        ("javascript:alert(1)", "address that is none"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused(text: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        Client(Access(), "example.com", is_trusted=True).location("https://example.com/v2/", text)


@pytest.mark.req("LIB-01", "LIB-02")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest")),
        ("me/x:v1", ("registry.ollama.ai", "me", "x", "v1")),
        ("127.0.0.1:5000/x/y", ("127.0.0.1:5000", "x", "y", "latest")),
        ("https://hf.co/o/r:Q4_K_M", ("hf.co", "o", "r", "Q4_K_M")),
        ("ghcr.io/a/b/c/model:v2", ("ghcr.io", "a/b/c", "model", "v2")),
        ("hf.co/o/" + "r" * 96, ("hf.co", "o", "r" * 96, "latest")),
    ],
)
def test_a_name_says_where_to_ask(text: str, parts: tuple[str, ...]) -> None:
    name = Asked.parse(text).name
    assert name.parts == parts and Name.of_path(name.path) == name


@pytest.mark.req("LIB-01", "LIB-02")
@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", InvalidModelName, "invalid model name"),
        ("a b", InvalidModelName, "invalid model name"),
        ("../x", InvalidModelName, "invalid model name"),
        ("host/a/b/c", InvalidModelName, "invalid model name"),
        ("h.io/" + "a/" * 9 + "m", InvalidModelName, "invalid model name"),
        ("ftp://h.io/a/b", InvalidModelName, "invalid model name"),
        ("http://127.0.0.1:5000/x/y", RequestError, "^insecure protocol http$"),
        ("x:cloud", RequestError, "runs models itself"),
        ("gpt-oss:120b-cloud", RequestError, "runs models itself"),
    ],
)
def test_a_name_that_can_not_be_had_is_refused(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Asked.parse(text)


@pytest.mark.req("LIB-04")
def test_the_settings_name_mirrors_and_proxies_without_their_passwords() -> None:
    environ = {"HF_ENDPOINT": "https://hf-mirror.com", "HTTPS_PROXY": "http://me:secret@proxy.lan:3128", "NO_PROXY": "lan"}
    access = Access.load(Settings(mirrors=(("registry.ollama.ai", "https://mirror.lan/ollama/"),)), environ)
    assert access.mirror("registry.ollama.ai") == "https://mirror.lan/ollama"
    assert access.mirror("hf.co") == "https://hf-mirror.com" and access.mirror("other") == ""
    assert access.proxies.shown == "http://me:***@proxy.lan:3128" and "secret" not in access.proxies.shown


@pytest.mark.req("LIB-04")
@pytest.mark.parametrize(
    ("no_proxy", "url", "is_exempt"),
    [
        ("", "https://example.com/", False),
        ("*", "https://example.com/", True),
        ("example.com", "https://sub.example.com/", True),
        (".example.com", "https://example.com/", True),
        ("ample.com", "https://example.com/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("example.com:8443", "https://example.com:8443/", True),
        ("example.com:8443", "https://example.com/", False),
        ("x, y  example.com", "https://example.com/", True),
        ("", "https://localhost/", True),
        ("", "https://127.0.0.1:5000/", True),
    ],
)
def test_no_proxy_is_read_as_others_read_it(no_proxy: str, url: str, is_exempt: bool) -> None:
    proxies = Proxies.load({"https_proxy": "proxy:1", "NO_PROXY": no_proxy})
    assert (proxies.for_url(url) is None) is is_exempt


@pytest.mark.req("LIB-15")
def test_challenges_are_read_in_any_form() -> None:
    found = parse(['Basic realm="a, b", Bearer realm="https://x/t?k=1",service=zoo , scope="repository:a/b:pull"', "Negotiate"])
    bearer = Challenge("bearer", {"realm": "https://x/t?k=1", "service": "zoo", "scope": "repository:a/b:pull"})
    assert found == [Challenge("basic", {"realm": "a, b"}), bearer, Challenge("negotiate")]


@pytest.mark.req("LIB-16")
def test_the_key_of_this_machine_is_one_that_ssh_reads(tmp_path: Path) -> None:
    path = tmp_path / ".ollama" / "id_ed25519"
    key = signature.load(path)
    assert signature.load(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.with_name("id_ed25519.pub").read_text() == f"{key.line}\n"
    blob, _, signed = key.authorization("https://x/token?a=1").partition(":")
    assert len(base64.b64decode(signed)) == 64 and blob == key.blob and "seed" not in repr(key)
    try:
        said = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return
    assert said.split()[:2] == key.line.split()


@pytest.mark.req("LIB-16")
def test_a_signature_is_the_one_of_the_standard() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert ed25519.public_key(seed).hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert ed25519.sign(seed, b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")


@pytest.mark.req("LIB-16")
def test_a_key_that_can_not_be_used_is_said(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    path.write_text("no key")
    with pytest.raises(RegistryRefused, match="can't be used"):
        signature.load(path)


def accounts(tmp_path: Path, **content: object) -> dict[str, str]:
    (tmp_path / "config.json").write_text(json.dumps(content))
    return {"DOCKER_CONFIG": str(tmp_path)}


@pytest.mark.req("LIB-17")
@pytest.mark.parametrize(
    ("content", "host", "login"),
    [
        ({"auths": {"r.io": {"auth": base64.b64encode(b"me:a:b").decode()}}}, "r.io", Login("me", "a:b")),
        ({"auths": {"https://r.io": {"username": "me", "password": "x"}}}, "r.io", Login("me", "x")),
        ({"auths": {"https://index.docker.io/v1/": {"auth": "bWU6eA=="}}}, "docker.io", Login("me", "x")),
        ({"auths": {"r.io": {"auth": "???"}}}, "r.io", None),
        ({"auths": {"r.io": {"auth": "bWU6eA=="}}}, "other.io", None),
        ({"auths": [], "credHelpers": 5}, "r.io", None),
        ({"credHelpers": {"r.io": "../../evil"}}, "r.io", None),
    ],
)
def test_accounts_are_found_where_docker_keeps_them(
    tmp_path: Path, content: dict[str, object], host: str, login: Login | None
) -> None:
    assert asyncio.run(credentials.find(host, accounts(tmp_path, **content))) == login


@pytest.mark.req("LIB-17")
def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-zoo"
    helper.write_text('#!/bin/sh\nread host; printf \'{"Username":"me","Secret":"%s"}\' "$host"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert asyncio.run(credentials.find("r.io", accounts(tmp_path, credsStore="zoo"))) == Login("me", "r.io")


@pytest.mark.req("LIB-17")
def test_a_token_of_hugging_face_goes_there_only_and_no_secret_is_shown(tmp_path: Path) -> None:
    environ = {"HF_TOKEN": "hf_secret"}
    assert credentials.hugging_face_token("huggingface.co", environ) == "hf_secret"
    assert credentials.hugging_face_token("hf.co.evil.io", environ) == ""
    assert "secret" not in repr(Login("me", "secret")) and "secret" not in repr(Access(environ={"HF_TOKEN": "secret"}))


async def test_a_registry_that_says_continue_for_ever_is_hung_up_on() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(Access(), host, is_trusted=True, base=f"http://{host}") as client:
        async with asyncio.timeout(10):
            with pytest.raises(BROKEN, match="too many interim responses"):
                async with client.open("GET", f"http://{host}/v2/"):
                    pass
