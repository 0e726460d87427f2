"""What a model writes reaches a browser as HTML that can do nothing."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import LimitExceeded, RequestError
from serow.server.handlers.page import MARKDOWN_LIMITS
from serow.server.page.markdown import to_bytes, to_html
from serow.workers.pool import Pool
from tests.server.hostile_markdown import SHAPES

ALLOWED = {
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "a", "code", "pre", "span", "blockquote", "br", "hr"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
TAG = re.compile(r"<\s*/?\s*([a-zA-Z][^\s/>]*)([^>]*)>")
HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x]( data:text/html;base64,PHNjcmlwdD4=)",
    "![x](https://example.com/track.png)",
    "<https://example.com/\"onmouseover='alert(1)'>",
    "[x](vbscript:x) [y](file:///etc/passwd)",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>\nx\n```',
    "| <b>a</b> |\n|---|\n| <svg/onload=alert(1)> |",
    "[a]: javascript:alert(1)\n\n[a]",
]


def check(html: str) -> None:
    for name, attributes in TAG.findall(html):
        assert name in ALLOWED
        assert not re.search(r"\son\w+\s*=", re.sub(r'"[^"]*"', '""', attributes))
        for url in re.findall(r'href="([^"]*)"', attributes):
            assert url.startswith(("http://", "https://", "mailto:"))


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_of_a_model_s_text_does_nothing(text: str) -> None:
    check(to_html(text))


@given(st.text(alphabet=st.sampled_from("<>\"'&;:/`*_[]()!|\\\n -#aZ1"), max_size=200))
def test_whatever_a_model_writes_holds_harmless_elements_only(text: str) -> None:
    check(to_html(text))


def test_code_is_coloured_and_tables_are_tables() -> None:
    html = to_html("```python\ndef f(): pass\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert '<span class="k">def</span>' in html
    assert "<td>1</td>" in html


def test_a_link_opens_beside_the_page() -> None:
    assert 'target="_blank" rel="noopener noreferrer nofollow"' in to_html("[x](https://example.com)")


@pytest.mark.parametrize("text", ["a" * (1 << 20), "```\nx\n```\n" * 10_000, "```c\nint x;\n```\n" * 10_000])
def test_long_texts_take_linear_time(text: str) -> None:
    began = time.process_time()
    to_html(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_shape_takes_more_than_its_length_in_time_or_in_html(shape: Callable[[int], str]) -> None:
    text = shape(4000)
    most = 100e-6 * len(text) + 0.1  # 4,000 squared steps take longer
    assert any(seconds(text) < most for _ in range(3))  # a machine's neighbours can slow one try down
    assert len(to_html(text)) < 60 * len(text) + 500_000


def seconds(text: str) -> float:
    """CPU time of one rendering."""
    began = time.process_time()
    to_html(text)
    return time.process_time() - began


def test_a_long_address_that_many_links_share_is_told_to_some_of_them() -> None:
    html = to_html("[a]: http://" + "x" * 100_000 + "\n\n" + "[a] " * 100)
    assert (html.count("href="), html.count("<a ")) == (10, 100)


def test_a_text_that_becomes_too_long_is_refused() -> None:
    with pytest.raises(RequestError, match="bytes of HTML, more than"):
        to_bytes('"' * 1_500_000)


async def test_the_worst_text_is_refused_within_two_seconds() -> None:
    async with Pool(1) as pool:
        await pool.run(to_bytes, "a", client="a", limits=MARKDOWN_LIMITS)
        began = time.monotonic()
        with pytest.raises(LimitExceeded):
            await pool.run(to_bytes, SHAPES["lazy quotes deep"](1 << 20), client="a", limits=MARKDOWN_LIMITS)
        assert time.monotonic() - began < 2
