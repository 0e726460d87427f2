"""Pictures over HTTP, from a real server with a tiny real pipeline; what they show is told by its checker."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from serow.engines.diffusers import installed
from serow.errors import RequestError
from serow.inference import picture
from serow.inference.ask import Ask
from serow.inference.task import Task
from serow.options import LoadOptions, Options, resolve_options
from serow.store.model import Model
from serow.store.name import Name
from serow.store.store import Store
from serow.wire.ollama import decode_generate
from tests.pictures import SHAPES, ZOO, checker, create_pipeline, decode_images, needs_packages
from tests.support.server import running_server

_PNG = io.BytesIO()
Image.new("RGB", (16, 16), "red").save(_PNG, "PNG")
DOT = base64.b64encode(_PNG.getvalue()).decode()


def ask(**fields: Any) -> Ask:
    """A request to /api/generate."""
    return decode_generate(json.dumps({"model": "shapes", **fields}).encode())


def task(wanted: Ask, **parameters: Any) -> Task:
    """The request to a model with these parameters."""
    model = Model(name=Name.parse("shapes"), digest="", size=0, modified_at=datetime.now(UTC), weights=SHAPES)
    return Task(wanted, model, resolve_options(parameters, wanted.options))


def test_what_a_picture_has_no_use_for_is_named() -> None:
    request = ask(prompt="x", suffix="s", think=True, format="json", raw=True, options={"seed": 1, "top_k": 4})
    assert picture.unused(request) == [
        '"suffix" was ignored: "shapes" is an image model',
        '"raw" was ignored: "shapes" is an image model',
        '"format" was ignored: "shapes" is an image model',
        '"think" was ignored: "shapes" is an image model',
        'option "top_k" was ignored: "shapes" is an image model',
    ]


@needs_packages
async def test_what_the_modelfile_says_and_a_picture_has_no_use_for_is_named() -> None:
    request = task(ask(prompt="x"))
    texts = replace(request.model, template="{{ .Prompt }}", system="Draw.", messages=({"role": "user", "content": "x"},))
    ready = await picture.prepare(replace(request, model=texts), decode)
    assert ready.warnings == tuple(
        f'{what} of the Modelfile was ignored: "shapes" is an image model' for what in ("TEMPLATE", "SYSTEM", "MESSAGE")
    )


async def decode(images: Sequence[str], *, as_mask: bool = False) -> list[bytes]:
    return decode_images(list(images))


async def test_without_the_packages_nothing_is_drawn_or_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.engines.diffusers.installed._found", set())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(installed, "_found", set())
    for request in (ask(prompt="x", keep_alive=0), ask()):
        with pytest.raises(RequestError, match="image models need the package"):
            await picture.prepare(task(request), decode)


def test_what_a_picture_uses_is_not_named() -> None:
    options = {"seed": 1, "steps": 3, "guidance": 2.0, "negative_prompt": "x", "num_thread": 2}
    assert picture.unused(ask(prompt="x", keep_alive=1.0, width=8, height=8, steps=1, options=options)) == []


def test_the_request_lies_over_its_options_and_these_over_the_modelfile() -> None:
    wanted = ask(prompt="x", steps=3, options={"height": 32, "steps": 6})
    drawn = picture.image_request(task(wanted, width=64, height=64, steps=12, guidance=4.0))
    assert (drawn.width, drawn.height, drawn.steps, drawn.guidance) == (64, 32, 3, 4.0)


def test_options_about_text_never_load_a_pipeline_anew() -> None:
    assert picture.load_options(Options(num_ctx=9, num_batch=1, use_mmap=False, num_thread=3)) == LoadOptions(num_thread=3)


@needs_packages
@pytest.mark.parametrize(("images", "message"), [(["!"], "image 0 is not base64")])
async def test_a_picture_to_start_from_is_one_and_readable(images: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        await picture.prepare(task(ask(prompt="x", images=images)), decode)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with zoo-shapes under the name shapes, with its usual settings."""
    root = tmp_path_factory.mktemp("pictures")
    create_pipeline(Store(root), "shapes", SHAPES, width=64, height=64, steps=12, guidance=4.0, num_thread=1)
    return root


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[httpx.Client]:
    """A client of a server with that store."""
    with running_server(store) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def generate(client: httpx.Client, prompt: str = "a red circle", **fields: Any) -> httpx.Response:
    return client.post("/api/generate", json={"model": "shapes", "prompt": prompt, "stream": False, **fields})


def drawing_began(lines: Iterator[str]) -> dict[str, Any]:
    """The first record that is not about a place or the load."""
    records: Iterator[dict[str, Any]] = map(json.loads, lines)
    return next(record for record in records if "status" not in record)


def picture_of(record: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(record["image"], validate=True)), formats=["PNG"])


def worker() -> psutil.Process:
    """The process that draws here: the youngest, for servers of other tests may still have theirs."""
    children = [each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]
    drawing_ones = [child for child in children if "serow.engines.diffusers.worker" in child.cmdline()]
    return max(drawing_ones, key=psutil.Process.create_time)


@needs_packages
@pytest.mark.req("GEN-18")
def test_a_stream_tells_every_step_and_ends_with_the_picture(client: httpx.Client) -> None:
    response = generate(client, stream=True, steps=5, options={"seed": 12})
    *steps, last = (record for line in response.text.splitlines() if "status" not in (record := json.loads(line)))
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [(step["completed"], step["total"], step["response"], step["done"]) for step in steps] == [
        (number, 5, "", False) for number in range(6)
    ]
    assert (last["done"], last["done_reason"], last["response"], "completed" in last) == (True, "stop", "", False)
    assert last["total_duration"] > 0 and last["model"] == "shapes" and "warnings" not in last
    assert picture_of(last).size == (64, 64)


@needs_packages
@pytest.mark.req("GEN-18")
def test_an_answer_that_is_not_streamed_is_the_last_record(client: httpx.Client) -> None:
    response = generate(client, steps=4, width=32, height=48, options={"seed": 12})
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert picture_of(response.json()).size == (32, 48)


@needs_packages
@pytest.mark.req("GEN-18")
def test_the_same_seed_gives_the_same_picture_streamed_or_not(client: httpx.Client) -> None:
    whole = generate(client, steps=4, options={"seed": 5}).json()
    streamed = json.loads(generate(client, steps=4, options={"seed": 5}, stream=True).text.splitlines()[-1])
    other = generate(client, steps=4, options={"seed": 6}).json()
    assert whole["image"] == streamed["image"] != other["image"]


@needs_packages
@pytest.mark.req("PIC-06", "PIC-09", "IMG-01")
def test_the_same_seed_gives_the_same_picture_alone_in_a_batch_and_by_openais_route(client: httpx.Client) -> None:
    options = {"guidance": 3.0, "negative_prompt": "a (blue:1.2) square"}
    alone = [generate(client, steps=3, options={**options, "seed": seed}).json()["image"] for seed in (5, 6, 7)]
    batch = generate(client, steps=3, options={**options, "seed": 5, "n": 3}).json()
    body = {"model": "shapes", "prompt": "a red circle", "steps": 3, "seed": 5, "n": 3, **options}
    by_openai = client.post("/v1/images/generations", json=body).json()
    assert batch["images"] == alone == [each["b64_json"] for each in by_openai["data"]] and len(set(alone)) == 3
    assert "warnings" not in by_openai


@needs_packages
@pytest.mark.req("GEN-18")
def test_text_parameters_and_rounded_sizes_are_named_in_warnings(client: httpx.Client) -> None:
    record = generate(client, steps=1, width=61, system="x", format={"type": 5}, options={"top_k": 1, "odd": 1}).json()
    assert record["warnings"] == [
        'unknown option "odd" was ignored',
        '"system" was ignored: "shapes" is an image model',
        '"format" was ignored: "shapes" is an image model',
        'option "top_k" was ignored: "shapes" is an image model',
        "width 61 was rounded to 64: the model draws in multiples of 8",
    ]


@needs_packages
@pytest.mark.req("GEN-18")
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"width": 0}, "width must be between 1 and 4096"),
        ({"height": -8}, "height must be between 1 and 4096"),
        ({"width": 4097}, "width must be between 1 and 4096"),
        ({"width": "64"}, '"width" must be an integer, not a string'),
        ({"steps": 0}, "steps must be between 1 and 1000"),
        ({"steps": 1001}, "steps must be between 1 and 1000"),
        ({"options": {"steps": 0}}, 'option "steps" must be between 1 and 1000'),
        ({"options": {"negative_prompt": 5}}, 'option "negative_prompt" must be of type string'),
        ({"images": ["%%"]}, "image 0 is not base64 of a picture; URLs are never fetched"),
        ({"images": [DOT, DOT]}, "this model starts from one image at most, not 2"),
    ],
)
def test_what_can_not_be_drawn_is_refused(client: httpx.Client, fields: dict[str, Any], error: str) -> None:
    response = generate(client, **fields)
    assert (response.status_code, response.json()) == (400, {"error": error})


@needs_packages
@pytest.mark.req("GEN-03", "LIFE-04")
def test_an_empty_prompt_loads_and_keep_alive_zero_unloads(client: httpx.Client) -> None:
    assert generate(client, "", stream=True).json()["done_reason"] == "load"
    assert [model["name"] for model in client.get("/api/ps").json()["models"]] == ["shapes:latest"]
    process = worker()
    assert generate(client, "", keep_alive=0).json()["done_reason"] == "unload"
    assert not process.is_running() and client.get("/api/ps").json() == {"models": []}


@needs_packages
@pytest.mark.req("LIFE-05")
def test_a_client_that_leaves_ends_the_drawing(client: httpx.Client) -> None:
    body = {"model": "shapes", "prompt": "a red circle", "steps": 1000}
    with client.stream("POST", "/api/generate", json=body) as response:
        assert drawing_began(response.iter_lines())["total"] == 1000
    assert (
        "image"
        in httpx.post(client.base_url.join("/api/generate"), json={**body, "steps": 1, "stream": False}, timeout=10).json()
    )


@needs_packages
@pytest.mark.req("LIFE-06", "RES-04")
def test_a_dead_engine_ends_the_stream_with_an_error_and_the_next_picture_comes(client: httpx.Client) -> None:
    body = {"model": "shapes", "prompt": "a red circle", "steps": 1000}
    with client.stream("POST", "/api/generate", json=body) as response:
        lines = response.iter_lines()
        drawing_began(lines)
        worker().kill()
        *_, last = lines
    assert json.loads(last) == {"error": "the engine ended with signal 9"}
    assert "image" in generate(client, steps=1).json()


@needs_packages
def test_an_image_model_in_memory_has_no_context(client: httpx.Client) -> None:
    assert "image" in generate(client, steps=1).json()
    loaded = {each["name"]: each["context_length"] for each in client.get("/api/ps").json()["models"]}
    assert loaded["shapes:latest"] == 0


@needs_packages
def test_show_and_tags_say_that_it_draws(client: httpx.Client) -> None:
    assert client.get("/api/tags").json()["models"][0]["capabilities"] == ["image"]
    shown = client.post("/api/show", json={"model": "shapes"}).json()
    assert shown["capabilities"] == ["image"] and "PARAMETER steps 12" in shown["modelfile"]


@needs_packages
@pytest.mark.req("GEN-18")
def test_a_drawing_starts_from_a_picture(client: httpx.Client) -> None:
    first = generate(client, "a blue square", options={"seed": 3}).json()
    second = generate(client, "a blue square", steps=10, images=[first["image"]], options={"seed": 3}).json()
    assert picture_of(second).size == (64, 64) and second["image"] != first["image"]


@needs_packages
@pytest.mark.req("GEN-18")
def test_pictures_show_what_was_asked_for(client: httpx.Client) -> None:
    with checker() as check:
        pairs = [(prompt, seed) for _, prompt, seed in check.test_pairs()[::5]]
        pairs += [(sample["prompt"], sample["seed"]) for sample in json.loads((ZOO / "samples.json").read_text())["samples"]]
        right = {"object": 0, "background": 0, "shape": 0}
        for prompt, seed in pairs:
            record = generate(client, prompt, options={"seed": seed}).json()
            _, verdict = check.judge(picture_of(record), check.parse_prompt(prompt))
            for name in right:
                right[name] += verdict[name]
    assert len(pairs) == 52
    assert min(right["object"], right["background"]) >= 0.9 * len(pairs) and right["shape"] >= 0.8 * len(pairs), right


@pytest.mark.req("GEN-18")
def test_a_language_model_names_what_only_pictures_use(server: str) -> None:
    body = {"model": "zoo-think", "prompt": "x", "stream": False, "width": 64, "options": {"guidance": 2, "num_predict": 1}}
    record = httpx.post(f"{server}/api/generate", json=body, timeout=60).json()
    assert record["warnings"] == [
        '"width" was ignored: "zoo-think" is not an image model',
        'option "guidance" was ignored: "zoo-think" is not an image model',
    ]
