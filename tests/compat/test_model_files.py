"""What a model's files decide: adapters, a beginning-of-text token, whether it writes at all (GEN-09)."""

import base64
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


@pytest.mark.parametrize("prompt", ["hello", ""])
def test_a_model_that_embeds_does_not_write(wire: Wire, made: None, prompt: str) -> None:
    assert wire.refusal("embeds", prompt) == (400, '"embeds" does not support generate')
    assert "embeds" not in wire.loaded()


@pytest.mark.req("GEN-03")
def test_a_model_that_embeds_can_be_unloaded(wire: Wire, made: None) -> None:
    wire.unload("embeds")


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
