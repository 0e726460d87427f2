from pathlib import Path

import pytest

from serow.settings import VARIABLES, SettingError, Settings, load, unused


def test_without_variables_the_server_listens_on_loopback() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.keep_alive) == ("127.0.0.1", 11434, 300)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0", ("0.0.0.0", 11434)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        (":8080", ("127.0.0.1", 8080)),
        ("http://example.local", ("example.local", 80)),
        ("https://example.local/x", ("example.local", 443)),
        ("[::1]:9", ("::1", 9)),
        ("::1", ("::1", 11434)),
        ('"0.0.0.0:80"', ("0.0.0.0", 80)),
        (" 'localhost' ", ("localhost", 11434)),
    ],
)
def test_the_host_is_read_as_the_peer_reads_it(text: str, address: tuple[str, int]) -> None:
    settings = load({"SEROW_HOST": text})
    assert (settings.host, settings.port) == address


def test_our_name_of_a_variable_wins_over_the_second_name() -> None:
    assert load({"SEROW_MODELS": "/a", "OLLAMA_MODELS": "/b"}).models == Path("/a")
    assert load({"OLLAMA_MODELS": "/b"}).models == Path("/b")


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600.0), ("30", 30.0), ("-1", float("inf"))])
def test_keep_alive_takes_a_duration_or_a_bare_number(text: str, seconds: float) -> None:
    assert load({"OLLAMA_KEEP_ALIVE": text}).keep_alive == seconds


@pytest.mark.parametrize("text", ["0", "0s", "-1"])
@pytest.mark.parametrize("name", ["LOAD_TIMEOUT", "STALL_TIMEOUT"])
def test_no_patience_is_endless_patience_as_the_peer_has_it(name: str, text: str) -> None:
    assert getattr(load({f"OLLAMA_{name}": text}), name.lower()) == float("inf")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SEROW_KEEPALIVE", "SEROW_KEEPALIVE is no setting of this server; is SEROW_KEEP_ALIVE meant?"),
        ("SEROW_NONSENSE", "SEROW_NONSENSE is no setting of this server"),
        ("OLLAMA_NEW_ENGINE", "OLLAMA_NEW_ENGINE is not used here"),
        ("OLLAMA_KEEPALIVE", "OLLAMA_KEEPALIVE is not used here; is SEROW_KEEP_ALIVE meant?"),
    ],
)
def test_a_variable_that_nothing_reads_is_told(name: str, sentence: str) -> None:
    assert unused({name: "1"}) == [sentence]


@pytest.mark.parametrize("name", ["SEROW_API_KEY", "OLLAMA_API_KEY", "OLLAMA_MODELS", "SEROW_TEST_LARGE", "SEROWX", "PATH"])
def test_a_variable_of_others_or_of_ours_is_not_told(name: str) -> None:
    assert unused({name: "1"}) == []


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1000", 1000), ("64KiB", 1 << 16), ("2GiB", 2 << 30), ("3 TiB", 3 << 40)]
)
def test_a_size_is_in_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert load({"SEROW_SLOT_CACHE": text}).slot_cache == size


@pytest.mark.parametrize("text", ["-1", "2GB", "2.5GiB", "GiB", "9" * 16, "much"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="SEROW_SLOT_CACHE"):
        load({"SEROW_SLOT_CACHE": text})


@pytest.mark.parametrize("name", ["SEROW_NUM_PARALLEL", "SEROW_HOST", "SEROW_KEEP_ALIVE"])
def test_a_value_that_does_not_fit_names_its_variable(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        load({name: "a:b"})


@pytest.mark.parametrize(
    ("name", "text"),
    [("ALLOW_OPEN", "maybe"), ("READ_TIMEOUT", "0"), ("WRITE_TIMEOUT", "-1"), ("MAX_HEADER", "-1"), ("MAX_IMAGES", "many")],
)
def test_a_limit_that_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=name):
        load({f"SEROW_{name}": text})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("0", False), ("no", False)])
def test_a_flag_is_read_in_the_usual_words(text: str, value: bool) -> None:
    assert load({"SEROW_ALLOW_OPEN": text}).allow_open is value


def test_keys_are_not_shown_with_the_settings() -> None:
    settings = load({"SEROW_API_KEYS": "one, two,"})
    assert settings.api_keys == ("one", "two") and "two" not in repr(settings)


def test_every_row_of_the_table_lands_in_a_field() -> None:
    assert {variable.field for variable in VARIABLES} <= set(Settings.__dataclass_fields__)


@pytest.mark.parametrize(("text", "cache_type"), [("q8_0", "q8_0"), ("Q4_0", "q4_0"), ("f16", "f16"), ("", "")])
def test_the_cache_type_is_one_of_the_peers(text: str, cache_type: str) -> None:
    assert load({"OLLAMA_KV_CACHE_TYPE": text}).kv_cache_type == cache_type


@pytest.mark.parametrize("text", ["q8", "8", "f32", "q8_0,q4_0", "none"])
def test_another_cache_type_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(SettingError, match=r"SEROW_KV_CACHE_TYPE='.*' does not fit: one of f16, q8_0, q4_0"):
        load({"SEROW_KV_CACHE_TYPE": text})


@pytest.mark.parametrize(("text", "is_on"), [("1", True), ("0", False), ("", None)])
def test_flash_attention_is_on_off_or_the_engines_to_decide(text: str, is_on: bool | None) -> None:
    assert load({"OLLAMA_FLASH_ATTENTION": text}).flash_attention is is_on


def test_a_packed_cache_without_flash_attention_is_refused_by_both_names() -> None:
    with pytest.raises(SettingError, match=r"SEROW_KV_CACHE_TYPE=q8_0 takes flash attention, and OLLAMA_FLASH_ATTENTION"):
        load({"SEROW_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "0"})
    assert load({"SEROW_KV_CACHE_TYPE": "f16", "OLLAMA_FLASH_ATTENTION": "0"}).flash_attention is False
