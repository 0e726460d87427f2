import random
import struct
import time
from contextlib import suppress
from pathlib import Path

import gguf as reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serow.errors import ModelFileError
from serow.store.gguf import Array, LongText, read
from serow.store.gguf_arrays import find_numbers, find_strings
from serow.store.weights import describe
from tests.store.files import MODEL, WEIGHT, array, gguf_file, string

HUGE = 2**64 - 1


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def with_entry(key: str, what: object) -> bytes:
    return gguf_file([*MODEL.items(), (key, what)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not in GGUF format"),
        (b"GGUF", "not in GGUF format"),
        (gguf_file(magic=b"GGML"), "not in GGUF format"),
        (gguf_file(version=1), "unsupported kind: version 1"),
        (gguf_file(version=3 << 24), "big-endian"),
        (gguf_file()[:100], "ends inside its metadata|more than it has room for"),
        (gguf_file(num_tensors=HUGE), "tensors, more than it has room for"),
        (gguf_file(num_entries=HUGE), "metadata entries, more than it has room for"),
        (gguf_file(num_entries=100), "metadata|entry|room"),
        (gguf_file([("a", 1), ("a", 2)]), "names a metadata entry twice"),
        (gguf_file([("", 1)]), "or not at all"),
        (with_entry("a", struct.pack("<IQ", 8, HUGE)), "characters, more than it has room for"),
        (with_entry("a", struct.pack("<I", 99)), "unknown type 99"),
        (with_entry("a", array(4, HUGE, b"")), "numbers, more than it has room for"),
        (with_entry("a", array(8, HUGE, b"")), "strings, more than it has room for"),
        (with_entry("a", array(8, 2, string("x") + struct.pack("<Q", 1 << 40))), "ends inside its metadata"),
        (with_entry("a", array(9, 1, array(4, 1, b"\0" * 4))), "array of arrays"),
        (with_entry("a", array(99, 1, b"\0" * 8)), "array of the unknown type 99"),
        (with_entry("general.alignment", 0), "alignment is not a power of two"),
        (with_entry("general.alignment", 24), "alignment is not a power of two"),
        (with_entry("general.alignment", "32"), "alignment is not a power of two"),
        (gguf_file(data=b"\0" * 255), "ends before its tensors do"),
        (gguf_file(tensors=[("w", (32, 2), 0, 64)]), "ends before its tensors do"),
        (gguf_file(tensors=[("w", (32, 1 << 60), 0, 0)]), "ends before its tensors do"),
        (gguf_file(tensors=[("w", (HUGE, HUGE, HUGE, HUGE), 0, 0)]), "ends before its tensors do"),
        (gguf_file(tensors=[("w", (32, 2), 0, 8)]), "not aligned"),
        (gguf_file(tensors=[("w", (32, 0), 0, 0)]), "impossible shape"),
        (gguf_file(tensors=[("w", (33,), 2, 0)]), "impossible shape"),
        (gguf_file(tensors=[("w", (), 0, 0)]), "0 dimensions"),
        (gguf_file(tensors=[("w", (1, 1, 1, 1, 1), 0, 0)]), "5 dimensions"),
        (gguf_file(tensors=[("w", (32,), 4, 0)]), "unknown type 4"),
        (gguf_file(tensors=[WEIGHT, WEIGHT]), "names a tensor twice"),
        (gguf_file(tensors=[("w" * 256, (32, 2), 0, 0)]), "a tensor's name of 256 bytes: 255 are allowed"),
        (with_entry("k" * 65_536, 1), "a key of 65536 bytes"),
        (gguf_file([*MODEL.items(), *((f"k{n}", "x" * 100_000) for n in range(200))]), "longer than 16777216 bytes together"),
    ],
)
def test_a_broken_file_is_refused_at_once_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = written(tmp_path, data)
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match=reason):
        read(path)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (("general.architecture", 5), "wrong type"),
        (("general.architecture", ""), "names no architecture"),
        (("toy.context_length", "long"), "wrong type"),
        (("toy.context_length", True), "wrong type"),
        (("toy.context_length", 1.5), "wrong type"),
        (("toy.context_length", HUGE), "out of range"),
        (("toy.block_count", 1 << 20), "more blocks than any model has"),
        (("toy.block_count", struct.pack("<Ii", 5, -1)), "negative"),
        (("toy.attention.head_count", array(4, 1, b"\0" * 4)), "does not fit its blocks"),
        (("toy.attention.head_count_kv", array(8, 2, string("a") + string("b"))), "does not fit its blocks"),
        (("tokenizer.chat_template", 7), "wrong type"),
        (("split.count", 2), "all its parts"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(tmp_path: Path, entry: tuple[str, object], reason: str) -> None:
    key, what = entry
    stored = struct.pack("<IQ", 10, what) if what == HUGE else what
    path = written(tmp_path, gguf_file({**MODEL, key: stored}.items()))
    with pytest.raises(ModelFileError, match=reason):
        describe(path)


def test_no_heads_divide_nothing(tmp_path: Path) -> None:
    weights = describe(written(tmp_path, gguf_file({**MODEL, "toy.attention.head_count": 0}.items())))
    assert weights.kv_bytes == 0


def test_each_block_may_have_heads_of_its_own(tmp_path: Path) -> None:
    heads = array(4, 2, struct.pack("<II", 4, 0))
    entries = {**MODEL, "toy.attention.head_count_kv": heads, "toy.attention.key_length": 10, "toy.attention.value_length": 6}
    assert describe(written(tmp_path, gguf_file(entries.items()))).kv_bytes == 4 * (10 + 6) * 2


def test_long_arrays_are_stepped_over_unless_asked_for(tmp_path: Path) -> None:
    words = [f"word {number}" for number in range(5000)]
    path = written(tmp_path, gguf_file({**MODEL, "tokenizer.ggml.tokens": words, "toy.after": "end"}.items()))
    tokens = read(path).metadata["tokenizer.ggml.tokens"]
    assert (tokens.count, tokens.values) == (5000, None)
    assert read(path).metadata["toy.after"] == "end"
    assert read(path, verbose=True).metadata["tokenizer.ggml.tokens"].values == words
    assert find_strings(path, tokens, [("word 1", "absent"), ("word 4999", "word 7")]) == (4999, 7)


def test_a_token_inside_another_is_not_found(tmp_path: Path) -> None:
    path = written(tmp_path, gguf_file({**MODEL, "tokenizer.ggml.tokens": [string("ab").decode(), "b"]}.items()))
    tokens = read(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert find_strings(path, tokens, [("ab",)]) is None
    assert find_strings(path, tokens, [("b",)]) == (1,)


@pytest.mark.parametrize("name", ["zoo-think", "zoo-vision", "zoo-vision-mmproj"])
def test_a_file_is_read_as_the_reference_reads_it(zoo: Path, name: str) -> None:
    path = zoo / f"{name}.gguf"
    ours, theirs = read(path, verbose=True), reference.GGUFReader(path)
    fields = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    found = {key: value.values if isinstance(value, Array) else value for key, value in ours.metadata.items()}
    assert found == fields
    assert [(each.name, each.shape, each.type) for each in ours.tensors] == [
        (each.name, tuple(each.shape.tolist()), each.tensor_type.name) for each in theirs.tensors
    ]


def test_a_model_is_described(zoo: Path) -> None:
    weights = describe(zoo / "zoo-think.gguf")
    assert (weights.architecture, weights.file_type, weights.parameter_size) == ("qwen3", "F16", "1.08M")
    assert (weights.context_length, weights.embedding_length, weights.vocab_size) == (2048, 128, 768)
    assert weights.kv_bytes == 4 * 2 * (64 + 64) * 2
    assert weights.fim_tokens == (3, 4, 5)
    assert "enable_thinking" in weights.chat_template


@pytest.mark.parametrize("name", ["zoo-think", "zoo-vision-mmproj"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, zoo: Path, name: str) -> None:
    whole = (zoo / f"{name}.gguf").read_bytes()
    chance = random.Random(7)
    for length in [*range(64), *(chance.randrange(len(whole)) for _ in range(40)), len(whole) - 1]:
        with pytest.raises(ModelFileError):
            describe(written(tmp_path, whole[:length]))


@settings(max_examples=200, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 24_000), data=st.binary(min_size=1, max_size=12))
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(tmp_path: Path, zoo: Path, at: int, data: bytes) -> None:
    whole = bytearray((zoo / "zoo-think.gguf").read_bytes())
    whole[at : at + len(data)] = data
    path = written(tmp_path, bytes(whole))
    try:
        describe(path)
    except ModelFileError as error:
        assert str(path) not in str(error)


@settings(max_examples=200, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), num_tensors=st.integers(0, 3), num_entries=st.integers(0, 3))
def test_any_bytes_after_a_good_start_are_read_or_refused(
    tmp_path: Path, data: bytes, num_tensors: int, num_entries: int
) -> None:
    path = written(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_entries) + data)
    with suppress(ModelFileError):
        assert describe(path).architecture


def test_a_tensor_of_every_reference_type_has_its_size(tmp_path: Path) -> None:
    for kind, (block, size) in reference.GGML_QUANT_SIZES.items():
        path = written(tmp_path, gguf_file(tensors=[("w", (block * 4,), kind.value, 0)], data=b"\0" * (size * 4)))
        assert read(path).tensors[0].type == kind.name
        with pytest.raises(ModelFileError, match="ends before its tensors do"):
            read(written(tmp_path, path.read_bytes()[:-1]))


@pytest.mark.parametrize(
    ("kind", "numbers", "found"),
    [
        ("i", [1, 3, 1, 2, 3], {1, 3, 4}),
        ("i", [256, 768, 1 << 24, 3 << 8], set()),
        ("i", [], set()),
        ("h", [3, 3, 2, 0], set()),
    ],
)
def test_the_places_of_numbers_are_found(tmp_path: Path, kind: str, numbers: list[int], found: set[int]) -> None:
    path = tmp_path / "numbers"
    data = struct.pack(f"<{len(numbers)}{kind}", *numbers)
    path.write_bytes(b"head" + data)
    assert find_numbers(path, Array(len(numbers), 4, 4 + len(data), None), (2, 3)) == found


def test_a_text_of_megabytes_is_stepped_over_and_refused_only_where_it_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path, with_entry("tokenizer.huggingface.json", "x" * (1 << 20) + "x"))
    assert read(path).metadata["tokenizer.huggingface.json"] == LongText((1 << 20) + 1)
    assert describe(path).architecture == "toy"
    with pytest.raises(ModelFileError, match="has 2000000 bytes, more than can be used"):
        describe(written(tmp_path, with_entry("tokenizer.chat_template", "x" * 2_000_000)))


def test_arrays_are_built_on_request_up_to_a_sum(tmp_path: Path) -> None:
    million = {f"toy.a{number}": array(7, 1 << 20, b"\1" * (1 << 20)) for number in range(3)}
    metadata = read(written(tmp_path, gguf_file([*MODEL.items(), *million.items()])), verbose=True).metadata
    assert [metadata[f"toy.a{number}"].values is None for number in range(3)] == [False, False, True]


def test_tokens_that_are_no_plain_text_are_few(tmp_path: Path) -> None:
    count = (1 << 18) + 1
    kinds = array(5, count, struct.pack("<i", 3) * count)
    with pytest.raises(ModelFileError, match="262145 tokens that are no plain text"):
        describe(written(tmp_path, with_entry("tokenizer.ggml.token_type", kinds)))
