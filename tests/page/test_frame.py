"""What `/` answers, and with what headers; needs no browser."""

from pathlib import Path

import httpx
import pytest

STATIC = Path(__file__).parents[2] / "src" / "serow" / "server" / "page" / "static"
LARGEST = 150_000  # bytes of all files


@pytest.mark.req("RES-06")
def test_a_browser_gets_the_page_and_other_clients_the_words_they_know(server: str) -> None:
    assert httpx.get(server).text == "Ollama is running"
    page = httpx.get(server, headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Serow</title>" in page.text
    assert page.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_a_file_of_the_page_may_load_nothing_from_elsewhere(server: str, name: str) -> None:
    answer = httpx.get(f"{server}/page/{name}")
    assert answer.content == (STATIC / name).read_bytes()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(f"{server}/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["markdown.py", "..%2fmarkdown.py", "%2e%2e", "none.js"])
def test_other_files_are_not_served(server: str, name: str) -> None:
    assert httpx.get(f"{server}/page/{name}").status_code == 404


def test_the_whole_page_is_small_and_names_no_other_host() -> None:
    texts = [path.read_text() for path in STATIC.iterdir()]
    assert sum(map(len, texts)) < LARGEST
    for text in texts:
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("plain HTTP", "")


def test_markdown_longer_than_allowed_is_refused(server: str) -> None:
    answer = httpx.post(f"{server}/page/api/markdown", json={"text": "a" * ((1 << 20) + 1)})
    assert answer.status_code == 400
    assert "more than the 1048576 allowed" in answer.json()["error"]


def test_markdown_comes_back_as_html(server: str) -> None:
    assert httpx.post(f"{server}/page/api/markdown", json={"text": "**b** <i>"}).text == "<p><strong>b</strong> &lt;i&gt;</p>\n"


def test_now_tells_rates_errors_and_memory(server: str) -> None:
    failed = httpx.post(f"{server}/api/generate", json={"model": "no-such-model", "prompt": "x"})
    said = httpx.get(f"{server}/page/api/now").json()
    assert len(said["rates"]) == 120
    assert said["errors"][0]["id"] == failed.headers["x-request-id"]
    assert 0 < said["memory"]["available"] <= said["memory"]["total"]
