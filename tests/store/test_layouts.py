"""Files that only Ollama reads: known by their marks, whole or by their beginning, and never taken for what runs here."""

from pathlib import Path
from typing import Any

import pytest

from serow.store import gguf, layouts
from serow.store.gguf import peek
from serow.store.show import show
from serow.store.store import Store

from .conftest import Make
from .files import MODEL, gguf_file

NORM = "attention.layer_norm_rms_epsilon"
Row = tuple[str, dict[str, Any], dict[str, tuple[int, ...]], bool]
ROWS: list[Row] = [  # architecture, its keys, tensors with their shapes, whether only Ollama reads it
    ("gptoss", {}, {}, True),
    ("qwen25vl", {}, {}, True),
    ("olmo3", {}, {}, True),
    ("glm4moelite", {}, {}, True),
    ("deepseekocr", {}, {}, True),
    ("glmocr", {}, {}, True),
    ("mllama", {}, {}, True),
    ("nemotron_h_omni", {}, {}, True),
    ("gemma3", {NORM: 1.0}, {}, False),
    ("gemma3", {}, {}, True),
    ("gemma3", {NORM: 1.0, "mm.tokens_per_image": 256}, {}, True),
    ("gemma3", {NORM: 1.0, "rope.local.freq_base": 1.0}, {}, True),
    ("gemma3", {NORM: 1.0}, {"v.patch_embd.weight": (32, 2)}, True),
    ("gemma3", {NORM: 1.0}, {"dense.0.weight": (32, 2)}, True),
    ("gemma3n", {}, {"token_embd.weight": (32, 9), "per_layer_token_embd.weight": (64, 9)}, False),
    ("gemma3n", {}, {"token_embd.weight": (32, 9), "per_layer_token_embd.weight": (64, 8)}, True),
    ("gemma4", {}, {"blk.0.ffn_up.weight": (32, 2)}, False),
    ("gemma4", {}, {"a.conv.weight": (32, 2)}, True),
    ("mistral3", {}, {"blk.0.ffn_up.weight": (32, 2)}, False),
    ("mistral3", {}, {"mm.patch.weight": (32, 2)}, True),
    ("mistral3", {"rope.scaling.beta_fast": 32.0}, {}, True),
    ("qwen3vl", {"rope.dimension_sections": 1}, {}, False),
    ("qwen3vl", {}, {}, True),
    ("qwen3vlmoe", {}, {}, True),
    ("qwen3next", {}, {"blk.0.ssm_dt.bias": (32, 2)}, False),
    ("qwen3next", {}, {"blk.0.ssm_dt": (32, 2)}, True),
    ("qwen35", {}, {"blk.0.ssm_dt.bias": (32, 2)}, False),
    ("qwen35", {}, {"mtp.fc.weight": (32, 2)}, True),
    ("qwen35moe", {"vision.block_count": 27}, {}, True),
    ("llama4", {}, {}, False),
    ("llama4", {}, {"v.blk.0.attn_q.weight": (32, 2)}, True),
    ("lfm2", {}, {"token_embd_norm.weight": (32, 2)}, False),
    ("lfm2", {}, {"output_norm.weight": (32, 2)}, True),
    ("laguna", {}, {"blk.0.attn_gate.weight": (32, 2)}, False),
    ("laguna", {"rope.swa.freq_base": 1.0}, {}, True),
    ("nemotron_h_moe", {}, {"blk.1.ffn_up.weight": (32, 2)}, False),
    ("nemotron_h_moe", {}, {"blk.1.ffn_latent_in.weight": (32, 2)}, True),
    ("llama", {}, {"output_norm.weight": (32, 2)}, False),
    ("gpt-oss", {}, {}, False),
    ("gemma-embedding", {}, {"dense.0.weight": (32, 2)}, False),
]


def file_of(architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> bytes:
    entries = [("general.architecture", architecture), *((f"{architecture}.{key}", what) for key, what in keys.items())]
    lengths = {key.replace("toy", architecture): what for key, what in MODEL.items() if key.startswith("toy.")}
    found = [(name, shape, 0, 0) for name, shape in (tensors or {"weight": (32, 2)}).items()]
    return gguf_file([*entries, *lengths.items()], found, data=bytes(4096))


@pytest.mark.req("LIB-39")
@pytest.mark.parametrize(("architecture", "keys", "tensors", "is_refused"), ROWS)
def test_a_layout_that_only_ollama_reads_is_known_by_its_marks(
    tmp_path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]], is_refused: bool
) -> None:
    data = file_of(architecture, keys, tensors)
    (tmp_path / "a.gguf").write_bytes(data)
    instead = layouts.instead_of(gguf.read(tmp_path / "a.gguf"))
    assert (instead is not None) is is_refused
    head, is_whole = peek(data)
    assert is_whole and layouts.instead_of(head) == instead
    assert not is_refused or architecture in layouts.SUSPECTS


@pytest.mark.req("LIB-39")
@pytest.mark.parametrize(("architecture", "keys", "tensors", "is_refused"), ROWS)
def test_the_beginning_of_a_file_condemns_no_file_that_runs(
    architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]], is_refused: bool
) -> None:
    data = file_of(architecture, keys, tensors)
    for length in range(0, len(data), 7):
        head, is_whole = peek(data[:length])
        assert is_refused or layouts.instead_of(head, is_whole=is_whole) is None


@pytest.mark.req("LIB-39")
def test_a_model_in_the_store_that_only_ollama_reads_is_listed_and_shown_with_the_reason(store: Store, make: Make) -> None:
    make("oss", files={"a.gguf": store.blobs.put(file_of("gptoss", {}, {}))[0]})
    model = store.resolve("oss")
    words = (
        "oss:latest is stored in a layout that only Ollama reads: "
        "hf.co/ggml-org/gpt-oss-20b-GGUF is one of its family that works"
    )
    assert (model.refusal, [each.refusal for each in store.list()]) == (words, [words])
    assert show(model, "", verbose=False, system="", options={}).warnings == [words]


@pytest.mark.req("LIB-39")
def test_an_embedding_model_and_one_without_a_known_other_are_told_what_to_look_for() -> None:
    head, _ = peek(file_of("gemma3", {NORM: 1.0}, {"dense.0.weight": (32, 2)}))
    assert "embeddinggemma" in layouts.refusal("x", layouts.instead_of(head))
    assert layouts.refusal("x", "") == "x is stored in a layout that only Ollama reads: look for its GGUF at hf.co"
    assert layouts.refusal("x", None) == ""
