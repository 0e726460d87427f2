import math

import pytest

from serow.duration import FOREVER, parse_keep_alive
from serow.errors import RequestError


@pytest.mark.req("GEN-05")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30),
        (1.5, 1.5),
        (0, 0),
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("100ms", 0.1),
        ("1µs", 1e-6),
        ("+5m", 300),
        ("-1m", FOREVER),
        (-1, FOREVER),
        (9223372036854775807, FOREVER),
        (10**400, FOREVER),
        (-(10**400), FOREVER),
    ],
)
def test_a_duration_is_read_as_go_reads_it(value: object, seconds: float) -> None:
    assert math.isclose(parse_keep_alive(value), seconds)


@pytest.mark.req("GEN-05")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("30", 'time: missing unit in duration "30"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        (".", 'time: invalid duration "."'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
        ("1h-30m", 'time: unknown unit "h-" in duration "1h-30m"'),
        ("0s" * 200_000, f'time: invalid duration "{"0s" * 32}…"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
    ],
)
def test_what_is_no_duration_is_refused_in_the_words_of_the_peer(value: object, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_keep_alive(value)
    assert str(caught.value) == message
