"""Columns, sizes and times."""

from datetime import UTC, datetime, timedelta

import pytest

from serow.cli.table import columns, go_duration, human_time
from serow.system.units import human_bytes

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_columns_are_four_spaces_apart_without_trailing_space() -> None:
    assert (
        columns([("NAME", "SIZE"), ("a", "98 MB"), ("longer", "")], indent="  ")
        == "  NAME      SIZE\n  a         98 MB\n  longer"
    )


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (98_362_432, "98 MB"),
        (1_940_000_000, "1.9 GB"),
        (10**12, "1 TB"),
    ],
)
def test_sizes_are_decimal(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    "delta, text",
    [
        (timedelta(milliseconds=5), "Less than a second ago"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(seconds=-299), "4 minutes from now"),
        (timedelta(minutes=1), "About a minute ago"),
        (timedelta(hours=1), "About an hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=3), "3 days ago"),
        (timedelta(days=20), "2 weeks ago"),
        (timedelta(days=90), "3 months ago"),
        (timedelta(days=800), "2 years ago"),
        (timedelta(days=-300 * 365), "Forever"),
    ],
)
def test_moments_are_told_from_now(delta: timedelta, text: str) -> None:
    far = delta < timedelta(days=-30000)
    assert human_time(datetime(2318, 1, 1, tzinfo=UTC) if far else NOW - delta, NOW) == text


@pytest.mark.parametrize(
    "nanoseconds, text",
    [
        (0, "0ns"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (572_614_035, "572.614035ms"),
        (1_500_000_000, "1.5s"),
        (61_000_000_000, "1m1s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_are_printed_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text
