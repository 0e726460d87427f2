"""What a model's files decide: adapters, chat templates, a beginning-of-text token, whether it writes at all (RES-08)."""

import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store
from tests.compat.wire import Wire
from tests.conftest import create
from tests.gguf_files import bert, changed, lora

BEGINNING = "<|endoftext|>"


@pytest.fixture(scope="module")
def made(models: Path, zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`begins`: zoo-think that wants a beginning-of-text token; `sees-begins`: the same of zoo-vision; `embeds`."""
    store, folder = Store(models), tmp_path_factory.mktemp("files")
    adds = {"tokenizer.ggml.add_bos_token": True}
    create(store, "begins", changed(zoo / "zoo-think.gguf", folder / "begins.gguf", adds))
    seeing = changed(zoo / "zoo-vision.gguf", folder / "sees.gguf", adds)
    create(store, "sees-begins", seeing, zoo / "zoo-vision-mmproj.gguf")
    create(store, "embeds", bert(folder / "embeds.gguf"))
    yield
    for name in ("begins", "sees-begins", "embeds"):
        store.delete(Name.parse(name))


@pytest.mark.req("GEN-09")
@pytest.mark.parametrize(
    ("prompt", "fields", "num_beginnings"),
    [
        ("hi", {"raw": True}, 1),
        (f"{BEGINNING}hi", {"raw": True}, 1),
        (f"{BEGINNING}{BEGINNING}hi", {"raw": True}, 2),
        (f"hi{BEGINNING}", {"raw": True}, 2),
        ("aaaa", {"raw": True}, 1),
        ("hi", {"template": "{{ .Prompt }}"}, 1),
        ("hi", {"template": BEGINNING + "{{ .Prompt }}"}, 1),
    ],
)
def test_a_prompt_begins_once(wire: Wire, made: None, prompt: str, fields: dict[str, object], num_beginnings: int) -> None:
    """zoo-think itself adds no such token: the same text without any has that many tokens less."""
    begun = wire.generate("begins", prompt, {"num_predict": 1}, think=False, **fields)
    plain = wire.generate("zoo-think", prompt.replace(BEGINNING, ""), {"num_predict": 1}, think=False, raw=True)
    assert begun["prompt_eval_count"] - plain["prompt_eval_count"] == num_beginnings


@pytest.mark.req("GEN-09", "GEN-13")
def test_a_prompt_with_a_picture_begins_once_too(wire: Wire, made: None, zoo: Path) -> None:
    picture = base64.b64encode(next((zoo / "vision_images").glob("*.png")).read_bytes()).decode()
    plain, begun = (
        wire.generate("sees-begins", "hi", {"num_predict": 1}, images=[picture], template=before + "{{ .Prompt }}")
        for before in ("", BEGINNING)
    )
    assert begun["prompt_eval_count"] == plain["prompt_eval_count"]


@pytest.mark.req("RES-08")
@pytest.mark.parametrize("prompt", ["hello", ""])
def test_a_model_that_embeds_does_not_write(wire: Wire, made: None, prompt: str) -> None:
    assert wire.refusal("embeds", prompt) == (400, '"embeds" does not support generate')
    assert "embeds" not in wire.loaded()


@pytest.mark.req("GEN-03")
def test_a_model_that_embeds_can_be_unloaded(wire: Wire, made: None) -> None:
    wire.unload("embeds")


@pytest.mark.req("RES-08")
def test_models_answer_with_their_adapters(wire: Wire, models: Path, zoo: Path, tmp_path: Path) -> None:
    store, base = Store(models), zoo / "zoo-think.gguf"
    for seed in (1, 2):
        create(store, f"adapted:{seed}", base)
        adapter = store.blobs.add(lora(base, tmp_path / f"{seed}.gguf", seed=seed))
        recipe = Recipe(source=Name.parse(f"adapted:{seed}"), adapters={"a.gguf": adapter})
        list(store.create(Name.parse(f"adapted:{seed}"), recipe))
    names = ("zoo-think", "adapted:1", "adapted:2", "zoo-think", "adapted:1")
    texts = [wire.generate(name, "2+3=", {"num_predict": 8}, raw=True, think=False)["response"] for name in names]
    assert len(set(texts)) == 3 and texts[3:] == texts[:2], texts
    for seed in (1, 2):
        wire.unload(f"adapted:{seed}")
        store.delete(Name.parse(f"adapted:{seed}"))


LOOP = "{% for m in messages %}BODY{% endfor %}"
TEMPLATES = {  # that the engine does not start with, and what such a template or its engine says
    "do": (LOOP.replace("BODY", "{% do x.append(1) %}"), "Unknown statement: do"),
    "with": (LOOP.replace("BODY", "{% with x = m.content %}{{ x }}{% endwith %}"), "Unknown statement: with"),
    "raw": ("{% raw %}{{ x }}{% endraw %}" + LOOP, "Unknown statement: raw"),
    "groupby": ("{% for g in messages|groupby('role') %}{{ g }}{% endfor %}", "groupby"),
    "replace": (LOOP.replace("BODY", "{{ m.content.replace('a', 'b', 1) }}"), "replace"),
    "unclosed": ("{% for m in messages %}{{ m.content }}", "Unexpected token"),
    "raises": ("{{ raise_exception('nobody may use this') }}", "nobody may use this"),
    "needs-system": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('first must be system') }}{% endif %}"
        + LOOP.replace("BODY", "<{{ m.content }}>"),
        "first must be system",
    ),
}


@pytest.fixture(scope="module", params=TEMPLATES)
def templated(
    request: pytest.FixtureRequest, models: Path, zoo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A model whose file has such a template."""
    store, name = Store(models), f"templated:{request.param}"
    path = tmp_path_factory.mktemp("templated") / "m.gguf"
    template, _ = TEMPLATES[request.param]
    create(store, name, changed(zoo / "zoo-think.gguf", path, {"tokenizer.chat_template": template}))
    yield name
    store.delete(Name.parse(name))


@pytest.mark.req("RES-08")
def test_a_template_that_the_engine_does_not_take_keeps_no_model_from_serving_without_it(wire: Wire, templated: str) -> None:
    words = TEMPLATES[templated.partition(":")[2]][1]
    assert wire.generate(templated)["done_reason"] == "load"
    assert wire.generate(templated, "2+3=", {"num_predict": 1}, raw=True)["eval_count"] == 1
    assert wire.rendered(templated, "Hi", template="[{{ .Prompt }}]") == "[Hi]"
    with wire.made("compat-template", source=templated, template="<{{ .Prompt }}>") as name:
        assert wire.rendered(name, "Hi") == "<Hi>"
    for context in (None, [5, 6]):
        status, error = wire.refusal(templated, "Hi", context=context)
        assert (status, words in error) == (400, True), error
    wire.unload(templated)


@pytest.mark.req("RES-08")
def test_a_template_that_raises_at_other_messages_renders_those_that_it_takes(wire: Wire, models: Path, zoo: Path) -> None:
    store = Store(models)
    template, _ = TEMPLATES["needs-system"]
    path = models.parent / "needs-system.gguf"
    create(store, "needs-system", changed(zoo / "zoo-think.gguf", path, {"tokenizer.chat_template": f" \n{template}\n "}))
    assert wire.rendered("needs-system", "Hi", system="S") == " \n<S><Hi> ", "a line ends behind a block"
    wire.unload("needs-system")
    store.delete(Name.parse("needs-system"))


@pytest.mark.req("RES-08")
def test_a_model_made_anew_is_not_refused_for_what_it_was(wire: Wire, models: Path, zoo: Path) -> None:
    store = Store(models)
    broken = models.parent / "broken.gguf"
    create(store, "anew", changed(zoo / "zoo-think.gguf", broken, {"tokenizer.ggml.pre": "none such"}))
    for _ in range(3):
        assert wire.refusal("anew", "Hi")[0] == 500
    with wire.made("anew-too", source="anew", system="S") as name:
        began = time.monotonic()
        assert wire.refusal(name, "Hi")[0] == 500
        assert time.monotonic() - began > 0.05, "it was tried"
    store.delete(Name.parse("anew"))


@pytest.mark.req("RES-08")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_a_template_without_end_is_bounded(wire: Wire, models: Path, zoo: Path) -> None:
    store, path = Store(models), models.parent / "endless.gguf"
    template = "{% for i in range(1000000000) %}{{ i }}{% endfor %}"
    create(store, "endless", changed(zoo / "zoo-think.gguf", path, {"tokenizer.chat_template": template}))
    options = {"num_ctx": 256, "num_predict": 1}
    assert wire.generate("endless", "2+3=", options, raw=True)["eval_count"] == 1
    status, error = wire.refusal("endless", "Hi", options)
    assert (status, "took too much" in error) == (400, True), error
    wire.unload("endless")
    store.delete(Name.parse("endless"))
