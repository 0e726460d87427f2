"""Where a model of another machine is, and who may be asked (REM-01)."""

import pytest

from serow.errors import RequestError
from serow.store.engine_address import addresses_of, check_allowed, key_of, split


@pytest.mark.req("REM-01")
@pytest.mark.parametrize(
    ("text", "urls", "name"),
    [
        ("vllm://gpu/org/model", ["http://gpu:8000"], "org/model"),
        ("vllms://gpu.lan:443/m", ["https://gpu.lan:443"], "m"),
        ("VLLM://A:1,b:2/m", ["http://a:1", "http://b:2"], "m"),
        ("vllm://[::1]:9/m", ["http://[::1]:9"], "m"),
    ],
)
def test_an_address_is_read(text: str, urls: list[str], name: str) -> None:
    host, found = split(text)
    assert [each.url for each in addresses_of(host)] == urls
    assert found == name


@pytest.mark.req("REM-01")
@pytest.mark.parametrize(
    "text",
    [
        "vllm:///m",
        "vllm://host/",
        "vllm://host",
        "vllm://user:pass@host/m",
        "vllm://host:0/m",
        "vllm://host:99999/m",
        "vllm://host?x=1/m",
        "vllm://a,,b/m",
        "vllm://ho st/m",
        "vllm://host/m\x1b[2J",
        "vllm://" + ",".join(f"h{n}" for n in range(17)) + "/m",
        "vllm://host/" + "m" * 257,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        split(text)


@pytest.mark.req("REM-01")
@pytest.mark.parametrize(
    ("host", "remotes", "is_allowed"),
    [
        ("vllm://127.0.0.1:8000", (), True),
        ("vllm://localhost", (), True),
        ("vllm://[::1]", (), True),
        ("vllm://gpu", (), False),
        ("vllm://gpu", ("GPU",), True),
        ("vllm://gpu:9", ("gpu:8",), False),
        ("vllm://127.0.0.1,gpu", (), False),
        ("vllm://localhost.evil.example", (), False),
    ],
)
def test_only_this_machine_and_hosts_that_are_set_are_spoken_to(host: str, remotes: tuple[str, ...], is_allowed: bool) -> None:
    addresses = addresses_of(host)
    if is_allowed:
        check_allowed(addresses, remotes)
    else:
        with pytest.raises(RequestError, match="may not speak"):
            check_allowed(addresses, remotes)


@pytest.mark.req("REM-01")
def test_a_key_goes_to_its_own_host_alone() -> None:
    here, there = addresses_of("vllm://a:1,b:1")
    keys = (("a", "secret"), ("b:2", "other"))
    assert key_of(here, keys) == "secret"
    assert key_of(there, keys) == ""
