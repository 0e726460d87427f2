"""Markdown to HTML that can do nothing: no raw HTML, links to the web only, pictures left out, code coloured.

Runs in a worker: its time on a text that a model wrote is bounded there. The parser's time is linear in the text; what a short
text can make of a long one is bounded here: addresses that many links share, and cells that a table's rows leave out.
"""

from importlib import import_module

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, table
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from serow.errors import RequestError

PRELOAD = ("markdown_it", "pygments.lexers", "pygments.formatters")
LONGEST = 1 << 20  # characters of one text
_LONGEST_COLOURED = 20_000  # characters of code in one text; what follows stays plain
_LONGEST_ADDRESSES = 1 << 20  # characters in the links of one text; those that follow lead nowhere
_MOST_LEFT_OUT = 5000  # cells that the rows of one table leave out; once all tables leave out as many the next ones stay text
_LARGEST = 8 << 20  # bytes of HTML; a mebibyte of quotation marks becomes six
_SCHEMES = ("http://", "https://", "mailto:")
_FORMATTER = HtmlFormatter(nowrap=True)


def to_bytes(text: str) -> bytes:
    """The text as a piece of HTML. Raises RequestError for one that becomes too long."""
    html = to_html(text).encode()
    if len(html) > _LARGEST:
        raise RequestError(f'"text" becomes {len(html)} bytes of HTML, more than the {_LARGEST} allowed')
    return html


def to_html(text: str) -> str:
    """The same as text, of any length."""
    return str(_parser().render(text))


def _parser() -> MarkdownIt:
    import_module("markdown_it.rules_block.table").MAX_AUTOCOMPLETED_CELLS = _MOST_LEFT_OUT  # type: ignore[attr-defined]
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    parser.block.ruler.at("table", _Tables().parse, {"alt": ["paragraph", "reference"]})
    parser.validateLink = _is_harmless  # type: ignore[method-assign]
    parser.options["highlight"] = _Colours().colour
    links = _Links()
    parser.add_render_rule("link_open", lambda renderer, *given: links.open(renderer, *given))
    return parser


def _is_harmless(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


class _Tables:
    """Finds tables, until they have left out too many cells: an empty row of two bytes may stand for a thousand."""

    def __init__(self) -> None:
        self._left = _MOST_LEFT_OUT

    def parse(self, state: StateBlock, start: int, end: int, silent: bool) -> bool:
        """Whether a table begins in this line; unless `silent` it becomes tokens, three for each cell."""
        num_before = len(state.tokens)
        if self._left <= 0 or not table(state, start, end, silent):
            return False
        if not silent:
            num_cells = (len(state.tokens) - num_before) // 3
            self._left -= max(0, num_cells - state.src.count("|", state.bMarks[start], state.eMarks[state.line - 1]))
        return True


class _Links:
    """Opens links, up to a number of characters in their addresses and titles: many may share a long one."""

    def __init__(self) -> None:
        self._left = _LONGEST_ADDRESSES

    def open(self, renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """A link opens in a tab of its own, which learns nothing of this page."""
        token = tokens[index]
        self._left -= sum(len(str(value)) for value in token.attrs.values())
        if self._left < 0:
            token.attrs = {}
        token.attrSet("target", "_blank")
        token.attrSet("rel", "noopener noreferrer nofollow")
        return str(renderer.renderToken(tokens, index, options, env))


class _Colours:
    """Colours code up to a number of characters for a whole text."""

    def __init__(self) -> None:
        self._left = _LONGEST_COLOURED

    def colour(self, code: str, language: str, _: str) -> str:
        """The code with classes for its colours; "" leaves it plain."""
        if not language or len(code) > self._left:
            return ""
        try:
            lexer = get_lexer_by_name(language[:40])
        except ClassNotFound:
            return ""
        self._left -= len(code)
        return str(highlight(code, lexer, _FORMATTER))
