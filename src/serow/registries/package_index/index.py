"""What a package index says of a project: the links on its page, as JSON (PEP 691) or HTML (PEP 503)."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from serow.errors import PullError
from serow.registries.package_index.distribution import Distribution

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
MAX_PAGE = 16 << 20  # bytes; the largest projects of the public index stay below


class _Anchors(HTMLParser):
    """Collects the href of every anchor, and the base that they are relative to."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.hrefs.append(href)
        elif tag == "base" and href and not self.base:
            self.base = href


def _json_links(text: str) -> Iterator[str]:
    try:
        page = json.loads(text)
    except (ValueError, RecursionError):
        raise PullError("the package index answered with broken JSON") from None
    files = page.get("files") if isinstance(page, dict) else None
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict) and isinstance(file.get("url"), str):
            yield file["url"]


def _html_links(text: str) -> Iterator[str]:
    anchors = _Anchors()
    anchors.feed(text)
    for href in anchors.hrefs:
        yield urljoin(anchors.base, href) if anchors.base else href


def find_link(wanted: Distribution, page_url: str, content_type: str, body: bytes) -> str | None:
    """The address of a file on a project's page, None when it is not there. Its digest is checked after the download."""
    text = body.decode("utf-8", "replace")
    links = _json_links(text) if "json" in content_type else _html_links(text)
    for link in links:
        url = urldefrag(urljoin(page_url, link)).url
        if unquote(urlsplit(url).path.rpartition("/")[2]) == wanted.filename:
            return url
    return None
