"""The format of a model's calls, found by rendering: what its template puts around a call in the history is what it was taught.

Three conversations are rendered that differ in one message of the assistant: a text, one call, two calls. What stands around
name, keys and values is the format. Nothing of it is a list of families.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from serow.errors import TemplateError
from serow.output.format import CallFormat, Kind
from serow.output.known import BARE, FALLBACKS, SURE, format_known
from serow.output.tags import num_shared
from serow.output.thinking import KNOWN_TAGS

Render = Callable[[list[dict[str, Any]], list[dict[str, Any]]], Awaitable[str]]
_USER, _PLAIN, _RESULT = "Serowuser", "Serowplain", "Serowresult"
_NAMES = ("probe_alpha", "probe_beta")
_IDS = ("probe0001", "probe0002")  # nine letters and digits, as Mistral's templates want
_KEY, _VALUE, _SECOND_KEY, _NUMBER = "probe_key", "PROBEVALUE", "probe_num", 7301
_ARGUMENTS = {_KEY: _VALUE, _SECOND_KEY: _NUMBER}
_TAG = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,30}\]")
_MOST_TEMPLATES = 64
_LONGEST = 4000  # characters of a rendered call
_UNFINISHED = re.compile(r"(?:<[^<>]*|\[[A-Z_/]*)$")


class Prober:
    """Finds formats, once for each of the latest templates."""

    def __init__(self) -> None:
        self._formats: OrderedDict[str, CallFormat] = OrderedDict()

    async def format_of(self, template: str, render: Render) -> CallFormat:
        """What the template's own text tells for sure, else what a probe finds, else what the text is most like."""
        if template not in self._formats:
            found = format_known(template, SURE) or await find_format(render) or format_known(template, FALLBACKS) or BARE
            self._formats[template] = found
            if len(self._formats) > _MOST_TEMPLATES:
                self._formats.popitem(last=False)
        return self._formats[template]


async def find_format(render: Render) -> CallFormat | None:
    """The format of the template that `render` fills in; None where it shows no call."""
    plain = await _rendered(render, _with_text(), _tools())
    bare = await _rendered(render, _with_text(), [])
    for content, is_text in (("", False), (None, False), ("", True), (None, True)):
        one = await _rendered(render, _with_calls(content, 1, is_text), _tools())
        two = await _rendered(render, _with_calls(content, 2, is_text), _tools())
        if plain and one and (format := derive(plain, one, two, bare)):
            return format
    return None


async def _rendered(render: Render, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """The conversation's text; "" where the template refuses it."""
    try:
        return await render(messages, tools)
    except TemplateError:
        return ""


def _with_calls(content: str | None, num_calls: int, is_text: bool) -> list[dict[str, Any]]:
    """The conversation with calls and their results; it ends there, some templates take no user behind a result."""
    arguments = json.dumps(_ARGUMENTS) if is_text else dict(_ARGUMENTS)
    pairs = list(zip(_NAMES[:num_calls], _IDS, strict=False))
    calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}} for name, id in pairs]
    results = [{"role": "tool", "content": _RESULT, "name": name, "tool_call_id": id} for name, id in pairs]
    return [{"role": "user", "content": _USER}, {"role": "assistant", "content": content, "tool_calls": calls}, *results]


def _with_text() -> list[dict[str, Any]]:
    contents = (("user", _USER), ("assistant", _PLAIN), ("user", "And then?"))
    return [{"role": role, "content": content} for role, content in contents]


def _tools() -> list[dict[str, Any]]:
    properties = {
        _KEY: {"type": "string", "description": "A text"},
        _SECOND_KEY: {"type": "integer", "description": "A number"},
    }
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return [
        {"type": "function", "function": {"name": name, "description": "A tool", "parameters": parameters}} for name in _NAMES
    ]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A call in a rendered text: what stands before it, and where it ends; `body` has the fields of its format."""

    before: str
    end: int
    body: CallFormat


def derive(plain: str, one: str, two: str, bare: str) -> CallFormat | None:
    """The format by the texts; `two` is "" where the template takes one call only, `bare` is without tools."""
    head = _between(plain, _USER, _PLAIN)
    region = _between(one, _USER, _RESULT)
    if not head or not region:
        return None
    region = region[_shared(head, region) :][:_LONGEST]
    shown = _show(region)
    if shown is None:
        return None
    structural = set(_TAG.findall(bare))
    behind = _before_any(region[shown.end :], structural)
    region_of_two = _between(two, _USER, _RESULT)
    following = _following(region_of_two, shown)
    format = _assemble(shown, behind, following, structural, has_two=_NAMES[1] in region_of_two)
    is_sound = format.kind is Kind.OBJECT or bool(format.openings)
    return format if is_sound and "probe" not in repr(format) else None


def _between(text: str, start: str, end: str) -> str:
    """What stands behind the last `start` and before the next `end`."""
    return text.rpartition(start)[2].partition(end)[0] if start in text and end in text.rpartition(start)[2] else ""


def _shared(head: str, region: str) -> int:
    """Length of the answer's head in `region`: what both share, no tag cut in two, and closed thinking that stands there."""
    length = num_shared(head, region)
    if unfinished := _UNFINISHED.search(region[:length]):
        length = unfinished.start()
    for tags in KNOWN_TAGS:
        found = region.find(tags.closing, length)
        if 0 <= found < region.find(_NAMES[0], length):
            length = max(length, found + len(tags.closing))
    return length


def _before_any(text: str, tags: set[str]) -> str:
    """What stands before the first of the tags that every conversation has."""
    return next((text[: tag.start()] for tag in _TAG.finditer(text) if tag[0] in tags), text)


def _show(region: str) -> _Shown | None:
    """The first call in a text, by the first of four readings that fits."""
    position = region.find(_NAMES[0])
    if position < 0:
        return None
    return _as_object(region, position) or _as_named(region, position) or _as_tagged(region, position)


def _decoded(text: str, position: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, position


def _as_object(region: str, position: int) -> _Shown | None:
    for brace in re.finditer(r"\{", region[:position]):
        value, end = _decoded(region, brace.start())
        if isinstance(value, dict) and end > position and (body := _members(value)):
            is_id_last = region.find(_IDS[0], position) > region.find(_VALUE, position) if body.id else False
            before = region[: brace.start()]
            return _Shown(before, end, replace(body, is_id_last=is_id_last, is_list=before.rstrip().endswith("[")))
    return None


def _members(value: dict[str, Any]) -> CallFormat | None:
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    if _NAMES[0] in inner:
        return CallFormat(Kind.OBJECT, name="", id="")
    names = [key for key, held in inner.items() if held == _NAMES[0]]
    arguments = [key for key, held in inner.items() if isinstance(held, dict) and _KEY in held]
    ids = [key for key, held in (*value.items(), *inner.items()) if held == _IDS[0]]
    if not names or not arguments:
        return None
    return CallFormat(Kind.OBJECT, name=names[0], arguments=arguments[0], id=ids[0] if ids else "")


def _as_named(region: str, position: int) -> _Shown | None:
    behind_name = position + len(_NAMES[0])
    for brace in re.finditer(r"\{", region[behind_name:]):
        start = behind_name + brace.start()
        value, end = _decoded(region, start)
        if isinstance(value, dict) and value.get(_KEY) == _VALUE:
            between = region[behind_name:start].replace(_IDS[0], "\0")
            texts = (between, between.partition("\0")[2]) if "\0" in between else (between,)
            return _Shown(region[:position], end, CallFormat(Kind.NAMED, between=tuple(_squeezed(text) for text in texts)))
    return None


def _squeezed(text: str) -> str:
    """The text without white space at its ends and next to its tags."""
    return re.sub(r"\s+(?=<|\[|$)|(?<=[>\]`n])\s+|^\s+", "", text)


def _as_tagged(region: str, position: int) -> _Shown | None:
    behind_name = position + len(_NAMES[0])
    key = region.find(_KEY, behind_name)
    value = region.find(_VALUE, key)
    second = region.find(_SECOND_KEY, value)
    number = region.find(str(_NUMBER), second)
    if min(key, value, second, number) < 0:
        return None
    to_value = region[key + len(_KEY) : value]
    behind = number + len(str(_NUMBER))
    if to_value.strip()[:1] in ("=", ":"):
        return _as_pythonic(region, position, to_value.strip()[1:].strip(), behind)
    to_number = region[second + len(_SECOND_KEY) : number]
    to_second = region[value + len(_VALUE) : second]
    key_open = _from_tag(_shared_end(region[behind_name:key], to_second))
    value_close = to_second[: len(to_second.rstrip()) - len(key_open)].strip()
    behind += len(region[behind:].lstrip()) and region[behind:].find(value_close) + len(value_close)
    close = _TAG.search(region, behind)
    if not key_open or not value_close or close is None:
        return None
    keys = [_parted(text) for text in (to_value, to_number)]
    body = CallFormat(
        Kind.TAGGED,
        name_close=region[behind_name : key - len(key_open)].strip(),
        key_open=key_open,
        key_close=tuple(dict.fromkeys(key for key, _ in keys)),
        value_open=keys[0][1],
        value_close=value_close,
        call_close=close[0],
    )
    return _Shown(region[:position], close.end(), body)


def _as_pythonic(region: str, position: int, quote: str, behind: int) -> _Shown | None:
    brackets = {"(": "()", "{": "{}"}.get(region[position + len(_NAMES[0]) :].lstrip()[:1])
    end = region.find(brackets[1], behind) if brackets else -1
    if not brackets or end < 0:
        return None
    before = region[:position]
    own_quote = "" if quote in ("'", '"') else quote
    is_list = before.rstrip().endswith("[")
    return _Shown(before, end + 1, CallFormat(Kind.PYTHONIC, brackets=brackets, quote=own_quote, is_list=is_list))


def _shared_end(first: str, second: str) -> str:
    """The longest end of both."""
    return first[len(first) - num_shared(first[::-1], second[::-1]) :]


def _from_tag(text: str) -> str:
    """The text from its first tag on."""
    start = re.search(r"[<\[]", text)
    return text[start.start() :].strip() if start else ""


def _parted(text: str) -> tuple[str, str]:
    """What closes a key and what opens its value."""
    text = text.strip()
    tag = _TAG.match(text)
    end = tag.end() if tag else len(text.partition("<")[0])
    return text[:end].strip(), text[end:].strip()


def _following(region: str, shown: _Shown) -> str:
    """What stands between two calls, "" where the template takes one only."""
    first, second = region.find(_NAMES[0]), region.find(_NAMES[1])
    if first < 0 or second < first:
        return ""
    text = region[:second]
    if shown.body.kind is Kind.OBJECT:
        return text[text.rfind("}") + 1 : text.rfind("{")] if "}" in text else ""
    offset = region.find(shown.before)
    return text[offset + shown.end :] if offset >= 0 else ""


def _assemble(shown: _Shown, behind: str, following: str, structural: set[str], *, has_two: bool) -> CallFormat:
    before = shown.before.strip()
    bare = before.removesuffix("[").rstrip() if shown.body.is_list else before
    lead = _lead(bare, following)
    opening = bare[: len(bare) - len(lead)].strip() if lead else bare
    between = following[: len(following.rstrip()) - len(lead)] if lead and following.rstrip().endswith(lead) else following
    closings = [*_pieces(behind), *_pieces(between.replace(bare, ""))]
    closings += [tag.replace("begin", "end") for tag in _TAG.findall(before) if "begin" in tag]
    has_opening = any(text and text in following for text in (opening, lead))
    skipped = {opening, lead, "", ",", "[", "]", *structural}
    return replace(
        shown.body,
        openings=(opening,) if opening else (),
        lead=lead,
        written=shown.before.lstrip(),
        is_list=shown.body.is_list or (has_two and bool(opening) and not has_opening),
        closings=tuple(dict.fromkeys(piece for piece in closings if piece not in skipped)),
    )


def _lead(before: str, following: str) -> str:
    """What of an opening stands before every call, where more stands before the first."""
    shared = _from_tag(_shared_end(before, following.rstrip()))
    if shared and shared != before:
        return shared
    _, _, rest = before.partition("\n")
    return rest.strip()


def _pieces(text: str) -> list[str]:
    """The tags of a text, and what stands between them unless it has letters."""
    between = [piece.strip().lstrip("]").strip() for piece in _TAG.split(text)]
    return [*_TAG.findall(text), *(piece for piece in between if not re.search(r"\w", piece))]
