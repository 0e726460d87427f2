"""What broke other servers, tried on ours. docs/security.md names the incident of each test, and the tests elsewhere."""

import ast
import base64
import hmac
import io
import re
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image
from starlette.routing import Route

from serow.constraints import Constraints
from serow.keys import KeyFile, Keyring
from serow.server.app import create_app
from serow.server.routes import PUBLIC_PATHS
from serow.settings import Settings
from serow.workers.pool import Pool
from tests.fault.attacked import ask, generate, is_unharmed, upload
from tests.store.files import MODEL, array, gguf_file
from tests.support.server import END_DEADLINE, Running, served

ROOT = Path(__file__).parents[2]
HUGE = 2**64 - 1


def tree(root: Path) -> set[str]:
    """Every path below a directory, but for what a running pull or write leaves for a moment."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.name.startswith(".")}


async def test_a_foreign_host_is_refused_on_every_route_of_a_server_that_listens_everywhere(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path, host="0.0.0.0", allow_open=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://evil.example") as client:
        for route in routes(app.routes):
            answer = await client.request(next(iter(route.methods or {"GET"})), route.path)
            assert (answer.status_code, answer.content) == (403, b"")


def routes(found: Any) -> list[Route]:
    return [route for route in found if isinstance(route, Route)]


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../secret", "sha256-" + "0" * 63 + "/", "../../secret", "sha256:" + "0" * 64 + "/../../x", "secret"],
)
async def test_what_is_no_digest_becomes_no_path(server: Running, digest: str) -> None:
    (server.root.parent / "secret").write_text("secret")
    before = tree(server.root.parent)
    for method, path, body in (
        ("HEAD", f"/api/blobs/{digest.replace('/', '%2F')}", None),
        ("POST", f"/api/blobs/{digest.replace('/', '%2F')}", {}),
        ("POST", "/api/create", {"model": "x", "files": {"x.gguf": digest}, "stream": False}),
        ("POST", "/api/create", {"model": "x", "from": "zoo-think", "adapters": {"x": digest}, "stream": False}),
    ):
        assert (await ask(server, path, body, method))[0] in (400, 404)
    assert tree(server.root.parent) == before


async def test_a_manifest_that_names_a_path_for_a_digest_opens_and_deletes_nothing(server: Running) -> None:
    secret = server.root.parent / "secret"
    secret.write_text("secret")
    manifest = server.root / "manifests/registry.ollama.ai/library/trojan/latest"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layer = '{"mediaType": "application/vnd.ollama.image.%s", "digest": "sha256:../../secret", "size": 6}'
    manifest.write_text(
        f'{{"schemaVersion": 2, "config": {layer % "model"}, "layers": [{layer % "model"}, {layer % "system"}]}}'
    )
    for method, path in (("POST", "/api/generate"), ("POST", "/api/show"), ("DELETE", "/api/delete"), ("GET", "/api/tags")):
        _, text = await ask(server, path, {"model": "trojan"}, method)
        assert "secret" not in text
    assert secret.read_text() == "secret"
    assert await is_unharmed(server)


@pytest.mark.parametrize(
    "name", ["../../evil.gguf", "/tmp/evil.gguf", "a/../../../evil.gguf", "evil\\..\\..\\x.gguf", "\0.gguf"]
)
async def test_names_of_files_are_never_paths(server: Running, zoo: Path, name: str) -> None:
    digest = await upload(server, (zoo / "zoo-think.gguf").read_bytes())
    before = tree(server.root.parent)
    await ask(server, "/api/create", {"model": "evil", "files": {name: digest}, "stream": False})
    new = tree(server.root.parent) - before
    assert all(path.startswith("models/") and "evil.gguf" not in path for path in new)
    await ask(server, "/api/delete", {"model": "evil"}, "DELETE")


BROKEN = {
    "four bytes": b"GGUF",
    "more tensors than bytes": gguf_file(num_tensors=HUGE),
    "a long array": gguf_file([*MODEL.items(), ("a", array(8, HUGE, b""))]),
    "a type that is none": gguf_file([*MODEL.items(), ("a", b"\xff\xff\xff\xff")]),
    "no alignment": gguf_file([*MODEL.items(), ("general.alignment", 0)]),
    "a tensor beyond the file": gguf_file(tensors=[("w", (32, 1 << 40), 0, 0)]),
    "no heads": gguf_file({**MODEL, "toy.attention.head_count": 0}.items()),
    "no blocks": gguf_file({**MODEL, "general.architecture": "qwen3", "qwen3.block_count": 0}.items()),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_model_file_is_refused_when_it_is_made_or_when_it_is_loaded(server: Running, name: str) -> None:
    digest = await upload(server, BROKEN[name])
    status, text = await ask(server, "/api/create", {"model": "broken", "files": {"x.gguf": digest}, "stream": False})
    if status == 200:
        status, text = await generate(server, model="broken", think=None)
    assert status in (400, 500) and '{"error":"' in text
    assert not re.search(r"/tmp|/blobs|Traceback|0x[0-9a-f]", text)
    assert await is_unharmed(server)


async def test_a_tensor_beyond_its_file_is_refused_before_it_is_quantized(server: Running) -> None:
    digest = await upload(server, BROKEN["a tensor beyond the file"])
    body = {"model": "q", "files": {"x.gguf": digest}, "quantize": "Q8_0", "stream": False}
    assert (await ask(server, "/api/create", body))[0] == 400
    assert await is_unharmed(server)


async def test_no_answer_tells_which_files_exist(server: Running) -> None:
    def body(path: str) -> dict[str, Any]:
        return {"model": "probe", "from": path, "modelfile": f"FROM {path}", "path": path, "stream": False}

    answers = [await ask(server, "/api/create", body(path)) for path in ("/etc/passwd", "/no/such/file", "../models", "/root")]
    assert len(set(answers)) == 1 and answers[0][0] == 400


def test_memory_is_given_back_and_does_not_grow_from_load_to_load(models: Path) -> None:
    with served(models) as server, httpx.Client(base_url=server.url, timeout=END_DEADLINE) as client:
        process, sizes = psutil.Process(server.process.pid), []
        for _ in range(7):
            client.post("/api/generate", json={"model": "zoo-think", "prompt": "Hi", "stream": False}).raise_for_status()
            client.post("/api/generate", json={"model": "zoo-think", "keep_alive": 0}).raise_for_status()
            assert server.engines() == []
            sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[2] < 4 << 20


NUMBERS = (-(2**63), -(2**31) - 1, -1, 0, 2**31, 2**63 - 1, 1e308, -1e308, 1e-320)
SAMPLING = (
    *("num_keep", "seed", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "temperature", "repeat_penalty"),
    *("presence_penalty", "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "dry_multiplier", "dry_base"),
    *("dry_allowed_length", "dry_penalty_last_n", "xtc_probability", "xtc_threshold", "min_keep", "draft_num_predict"),
)


async def test_no_number_of_a_request_harms_the_engine(server: Running) -> None:
    await server.load("zoo-think")
    pid = server.loaded.pid
    for option in SAMPLING:
        for number in NUMBERS:
            status, text = await generate(server, options={"num_predict": 2, option: number})
            assert status in (200, 400), f"{option} {number}: {text}"
    for token in (-1, -(2**31), 2**31 - 1, 2**63):
        assert (await generate(server, context=[token]))[0] == 400
        assert (await generate(server, options={"num_predict": 2, "logit_bias": {str(token): 5}}))[0] in (200, 400)
    assert await is_unharmed(server)
    assert server.loaded.pid == pid


@pytest.mark.parametrize("option", ["num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"])
async def test_no_number_that_loads_a_model_harms_the_server(server: Running, option: str) -> None:
    for number in (-(2**63), -1, 1, 2**31, 2**63 - 1):
        status, text = await generate(server, options={"num_predict": 1, option: number})
        assert status in (200, 400) or "memory" in text, f"{option} {number}: {text}"
    assert await is_unharmed(server)


GRAMMARS: dict[str, Any] = {
    "60,000 groups": {"grammar": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000},
    "an invalid grammar": {"grammar": 'root ::= "'},
    "a rule without end": {"grammar": "root ::= root"},
    "an endless expression": {"regex": "(((a{1,1000}){1,1000}){1,1000}){1,1000}"},
    "a pattern of groups": {"type": "string", "pattern": "(" * 60_000 + ")" * 60_000},
    "look-behind": {"regex": "(?<=a)b"},
    "a null character": {"regex": "\0"},
}


@pytest.mark.parametrize("name", GRAMMARS)
async def test_a_hostile_grammar_never_reaches_the_engine(server: Running, name: str) -> None:
    await server.load("zoo-think")
    pid = server.loaded.pid
    status, _ = await generate(server, format=GRAMMARS[name], options={"num_predict": 5})
    assert status in (200, 400)
    assert await is_unharmed(server)
    assert server.loaded.pid == pid


async def test_addresses_of_pictures_are_never_fetched(server: Running) -> None:
    asked = []

    async def picture(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", picture)
    async with TestServer(app) as bait:
        url = str(bait.make_url("/x.png"))
        for image in (url, f"data:image/png;base64,{url}", base64.b64encode(url.encode()).decode(), "file:///etc/passwd"):
            assert (await generate(server, model="zoo-vision", think=None, images=[image]))[0] == 400
        for prompt in (url, f"![x]({url})", f"<img src={url}>"):
            assert (await generate(server, model="zoo-vision", think=None, prompt=prompt))[0] == 200
    assert asked == []


async def test_a_user_s_text_can_not_stand_for_a_picture(server: Running) -> None:
    await server.load("zoo-vision")
    (vision,) = [each for each in server.scheduler._residents if each.request.model.name.model == "zoo-vision"]
    marker = vision.runner.media_marker  # type: ignore[union-attr]
    for prompt in (marker, f"{marker}{marker}", "<__media__>", "[img-0]", "[img-7]"):
        assert (await generate(server, model="zoo-vision", think=None, prompt=prompt))[0] == 200


def png(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("1", size).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", png((8, 8))[:40], png((30_000, 30_000)), b"GIF89a", b"II*\0" * 9])
async def test_an_error_of_a_picture_tells_nothing_of_the_inside(server: Running, data: bytes) -> None:
    status, text = await generate(server, model="zoo-vision", think=None, images=[base64.b64encode(data).decode()])
    assert status == 400 and "image 0" in text
    assert not re.search(r"0x[0-9a-f]{4}|object at|BytesIO|site-packages", text)


async def test_formats_are_remembered_up_to_a_bound_and_only_in_memory(server: Running) -> None:
    before = tree(server.root.parent)
    formats = [{"type": "object", "properties": {f"p{number}": {"type": "integer"}}} for number in range(100)]
    for format in formats[:5]:
        assert (await generate(server, format=format, options={"num_predict": 1}))[0] == 200
    assert tree(server.root.parent) == before
    async with Pool() as pool:
        constraints = Constraints(pool)
        for each in [*formats, {"type": "string", "description": "x" * 100_000}]:
            assert await constraints.compile(each)
        assert len(constraints._known) == 64


def test_every_key_is_compared_in_constant_time_also_after_a_match(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compared = []
    original = hmac.compare_digest

    def spy(one: str, two: str) -> bool:
        compared.append(one)
        return original(one, two)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    keyring = Keyring(("first", "second", "third"), KeyFile(tmp_path / "keys"))
    assert keyring.find("first") and not keyring.find("firs")
    assert len(compared) == 6


async def test_no_answer_allows_every_origin(server: Running) -> None:
    for origin in ("http://evil.example", "http://localhost:3000", "null", "*"):
        async with server.session.get("/api/tags", headers={"Origin": origin}) as response:
            assert response.headers.get("Access-Control-Allow-Origin", "") != "*"
            assert response.status == (200 if "localhost" in origin else 403)


async def test_every_route_asks_for_the_key(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path, api_keys=("k",)))
    found = routes(app.routes)
    assert len(found) > 8
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for route in found:
            for method in route.methods or {"GET"}:
                status = (await client.request(method, route.path)).status_code
                assert (status == 401) is (route.path not in PUBLIC_PATHS), route.path


def incidents() -> list[tuple[str, str, str]]:
    """The table of docs/security.md: incident, what protects us, tests."""
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and "test_" in row[2]]


def test_every_test_that_the_page_on_security_names_exists() -> None:
    rows = incidents()
    assert len(rows) >= 28
    for incident, _, tests in rows:
        for path, name in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", tests):
            source = ast.parse((ROOT / (path or "tests/fault/test_incidents.py")).read_text())
            names = {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in names, incident


def test_every_test_here_is_named_on_that_page() -> None:
    named = (ROOT / "docs" / "security.md").read_text()
    for path in Path(__file__).parent.glob("test_*incidents.py"):
        source, place = ast.parse(path.read_text()), "" if path.samefile(__file__) else f"tests/fault/{path.name}::"
        names = {node.name for node in source.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        ours = {name for name in names if name.startswith("test_") and "page" not in name}
        assert {name for name in ours if f"`{place}{name}`" not in named} == set()
