from pathlib import Path

import pytest

from serow.settings import VARIABLES, SettingError, Settings, load


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


@pytest.mark.parametrize("name", ["SEROW_NUM_PARALLEL", "SEROW_HOST", "SEROW_KEEP_ALIVE"])
def test_a_value_that_does_not_fit_names_its_variable(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        load({name: "a:b"})


def test_every_row_of_the_table_lands_in_a_field() -> None:
    assert {variable.field for variable in VARIABLES} <= set(Settings.__dataclass_fields__)
