"""Markdown to HTML that can do nothing: no raw HTML, links to the web only, pictures left out, code coloured.

Runs in a worker: its time on a text that a model wrote is bounded there.
"""

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

PRELOAD = ("markdown_it", "pygments.lexers", "pygments.formatters")
LONGEST = 1 << 20  # characters of one text
_LONGEST_COLOURED = 20_000  # characters of code in one text; what follows stays plain
_SCHEMES = ("http://", "https://", "mailto:")
_FORMATTER = HtmlFormatter(nowrap=True)


def to_html(text: str) -> str:
    """The text as a piece of HTML."""
    return str(_parser().render(text))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    parser.validateLink = _is_harmless  # type: ignore[method-assign]
    parser.options["highlight"] = _Colours().colour
    parser.add_render_rule("link_open", _open_link)
    return parser


def _is_harmless(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


def _open_link(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """A link opens in a tab of its own, which learns nothing of this page."""
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
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
