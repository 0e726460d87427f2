from pathlib import Path
from typing import Any

import pytest

from serow.errors import ModelFileError, ModelNotFound, RequestError
from serow.store.name import Name
from serow.store.store import Store
from tests.gguf_files import lora
from tests.store.conftest import Make
from tests.store.files import gguf_file

NOTHING = "sha256:" + "0" * 64


def test_the_steps_and_digests_are_those_of_the_peer(store: Store, make: Make, think: str) -> None:
    assert make("zoo-think") == ["parsing GGUF", f"using existing layer {think}", "writing manifest"]
    statuses = make(
        "made",
        source=Name.parse("zoo-think"),
        system="Answer with the number only.",
        parameters={"temperature": 0, "stop": ["zzz"]},
        license=("MIT",),
    )
    assert statuses == [
        f"using existing layer {think}",
        "creating new layer sha256:a21ab07d0d37a952b753104afce8d7a925e8a7a2be400f7a9115bd8d7b2c14c7",
        "creating new layer sha256:e5dcffe836b6ec8a58e492419b550e65fb8cbdc308503979e5dacb33ac7ea3b7",
        "creating new layer sha256:6b6de0cbf11129aea531806027f24bb590fdcc2de171c109eaa6c25e6f84a81f",
        "writing manifest",
    ]


def test_the_config_is_what_the_peer_writes(store: Store, make: Make) -> None:
    make("zoo-think")
    config = store.manifest(Name.parse("zoo-think")).config
    assert store.blobs.read(config.digest, 1000).decode() == (
        '{"model_format":"gguf","model_family":"qwen3","model_families":["qwen3"],"model_type":"1.08M","file_type":"F16",'
        '"architecture":"amd64","os":"linux"}\n'
    )


def test_a_model_from_another_inherits_and_overrides(store: Store, make: Make) -> None:
    make("base", system="Old.", template="{{ .Prompt }}", parameters={"top_k": 3, "seed": 1}, license=("MIT",))
    make("made", source=Name.parse("base"), system="New.", parameters={"seed": 2.0}, license=("BSD",))
    model = store.resolve("made")
    assert (model.system, model.template, model.license) == ("New.", "{{ .Prompt }}", ("MIT", "BSD"))
    assert model.parameters == {"seed": 2, "top_k": 3}
    assert model.parent_model == "base:latest"
    assert store.resolve("base").system == "Old."


def test_messages_are_kept(store: Store, make: Make) -> None:
    messages = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    make("made", messages=messages)
    assert store.resolve("made").messages == messages


def test_two_files_make_a_model_that_sees(store: Store, make: Make, zoo: Path) -> None:
    files = {f"{name}.gguf": store.blobs.add(zoo / f"{name}.gguf") for name in ("zoo-vision-mmproj", "zoo-vision")}
    make("zoo-vision", files=files)
    model = store.resolve("zoo-vision")
    assert model.capabilities == ("completion", "vision")
    assert model.weights == store.blobs.path(files["zoo-vision.gguf"])
    assert model.projector == store.blobs.path(files["zoo-vision-mmproj.gguf"])
    assert model.details is not None and model.details.families == ["qwen3"]


def test_an_adapter_lies_over_a_model(store: Store, make: Make, zoo: Path, tmp_path: Path) -> None:
    digest = store.blobs.add(lora(zoo / "zoo-think.gguf", tmp_path / "lora.gguf"))
    make("made", adapters={"lora.gguf": digest})
    assert store.resolve("made").adapters == (store.blobs.path(digest),)


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ({"files": {}}, "^no files provided to convert$"),
        ({"files": None}, "^neither 'from' or 'files' was specified$"),
        ({"parameters": {"nonsense": 1}}, '^unknown parameter "nonsense"$'),
        ({"parameters": {"top_k": "3"}}, '^option "top_k" must be of type integer$'),
        ({"messages": ({"role": "robot", "content": "x"},)}, "^message role must be one of"),
        ({"messages": ({"role": "user", "content": 5},)}, "^message role must be one of"),
        ({"files": {"/etc/passwd": NOTHING}}, "^file path must be relative$"),
        ({"files": {"a/../../x.gguf": NOTHING}}, "^file path must be relative$"),
        ({"files": {"a.gguf": ""}}, "^invalid digest format$"),
        ({"files": {"a.gguf": "sha256:../../x"}}, "^invalid digest format$"),
        ({"files": {"a.gguf": NOTHING}}, f"^a.gguf: no file of the digest {NOTHING} is here$"),
        ({"adapters": {"a.gguf": NOTHING}}, f"^a.gguf: no file of the digest {NOTHING} is here$"),
        ({"license": tuple(map(str, range(101)))}, '^"license" holds 101 texts, more than the 100 allowed$'),
        ({"license": ("w" * (5 << 20),)}, '^"license" holds 5242880 bytes, more than the 4194304 allowed$'),
        ({"system": "é" * (3 << 20)}, '^"system" holds 6291456 bytes, more than the 4194304 allowed$'),
        (
            {"messages": ({"role": "user", "content": "x"},) * 1001},
            '^"messages" holds 1001 messages, more than the 1000 allowed$',
        ),
        (
            {"files": {f"{number}.gguf": NOTHING for number in range(1001)}},
            '^"files" holds 1001 files, more than the 1000 allowed$',
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_changes_nothing(store: Store, make: Make, recipe: dict[str, Any], error: str) -> None:
    before = set(store.blobs.root.iterdir())
    with pytest.raises(RequestError, match=error):
        make("made", **recipe)
    assert store.list() == []
    assert set(store.blobs.root.iterdir()) == before


def test_a_source_that_is_not_here_is_named(make: Make) -> None:
    with pytest.raises(ModelNotFound, match="model 'nope:latest' not found"):
        make("made", source=Name.parse("nope"))


@pytest.mark.parametrize("data", [b"GGUF", b"hello world", gguf_file(num_tensors=2**60), gguf_file(data=b"")])
def test_a_broken_file_makes_no_model(store: Store, make: Make, data: bytes) -> None:
    digest, _ = store.blobs.put(data)
    with pytest.raises(ModelFileError):
        make("made", files={"a.gguf": digest})
    assert store.list() == []


def test_files_hold_one_model(store: Store, make: Make, think: str, zoo: Path) -> None:
    projector = store.blobs.add(zoo / "zoo-vision-mmproj.gguf")
    for files in ({"a.gguf": projector}, {"a.gguf": think, "b.gguf": think}):
        with pytest.raises(ModelFileError, match="exactly one model"):
            make("made", files=files)
    with pytest.raises(ModelFileError, match="not a LoRA adapter"):
        make("made", adapters={"a.gguf": projector})


def test_what_the_peer_wrote_in_a_config_survives(store: Store, make: Make) -> None:
    make("base")
    manifest = store.manifest(Name.parse("base"))
    known = store.blobs.read(manifest.config.digest, 1000)
    digest, _ = store.blobs.put(known.replace(b'"file_type"', b'"renderer":"qwen3","file_type"'))
    path = store.root / "manifests" / Name.parse("base").path
    path.write_bytes(path.read_bytes().replace(manifest.config.digest.encode(), digest.encode()))
    make("made", source=Name.parse("base"))
    assert b'"renderer":"qwen3"' in store.blobs.read(store.manifest(Name.parse("made")).config.digest, 1000)


def test_equal_recipes_make_equal_models(store: Store, make: Make) -> None:
    for name in ("a", "b"):
        make(name, parameters={"stop": "<x>", "top_k": 4.0} if name == "a" else {"top_k": 4, "stop": ["<x>"]})
    assert store.resolve("a").digest == store.resolve("b").digest
