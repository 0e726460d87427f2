"""Anthropic's messages as a conversation: turns, blocks, results of tools (ANT-03, ANT-04)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serow.errors import RequestError
from serow.inference.ask import Image, Message, Part, Text, ToolCall
from serow.wire.fields import Fields
from serow.wire.tool_schema import check_schema

_BILLING = "x-anthropic-billing-header"  # differs in each request and would end the caching of prompts
_FAILED = "Error: "


@dataclass
class _Turn:
    """What one side says until the other one does. Results of tools come before the rest, the API's own behind their calls."""

    role: str
    results: list[Message] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """The turn as the flow has it."""
        if not (self.parts or self.thinking or self.calls):
            return self.results
        said = Message(self.role, _joined(self.parts), self.thinking, tuple(self.calls))
        return [said, *self.results] if self.role == "assistant" else [*self.results, said]


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """The parts, texts that follow each other as one."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and found and isinstance(found[-1], Text):
            found[-1] = Text(found[-1].text + part.text)
        else:
            found.append(part)
    return tuple(found)


def system_of(fields: Fields) -> tuple[Message, ...]:
    """`system`: a string or text blocks, as one message in front; none where there is no text."""
    value = fields.value("system")
    if value is not None and not isinstance(value, (str, list)):
        raise fields.mistyped("system", "a string or an array of text blocks", value)
    text = value if isinstance(value, str) else "".join(_system_texts(fields))
    return (Message("system", (Text(text),)),) if text else ()


def _system_texts(fields: Fields) -> list[str]:
    texts = []
    for each in fields.members("system"):
        if (kind := each.text("type", "text")) != "text":
            raise each.fault("type", f'{each.at("type")} "{kind}" is not text')
        texts.append(each.text("text"))
    return [text for text in texts if not text.startswith(_BILLING)]


def messages_of(fields: Fields) -> tuple[Message, ...]:
    """The turns; neighbours of one role are one. Raises RequestError that names the message at fault."""
    turns: list[_Turn] = []
    for each in fields.members("messages"):
        role = each.text("role").lower()
        if role not in ("user", "assistant", "system"):
            raise each.fault("role", f'{each.at("role")} "{role}" is not one of user, assistant, system')
        if not turns or turns[-1].role != role:
            turns.append(_Turn(role))
        elif turns[-1].parts:
            turns[-1].parts.append(Text("\n"))
        _say(turns, each)
    names = {call.id: call.name for turn in turns for call in turn.calls}
    return tuple(_named(message, names) for turn in turns for message in turn.messages())


def _named(message: Message, names: dict[str, str]) -> Message:
    """A result with the name of the tool that it is of, which templates ask for."""
    if message.role != "tool":
        return message
    return Message("tool", message.content, tool_name=names.get(message.tool_call_id, ""), tool_call_id=message.tool_call_id)


def _say(turns: list[_Turn], fields: Fields) -> None:
    content = fields.value("content")
    if isinstance(content, str):
        turns[-1].parts.append(Text(content))
        return
    blocks = fields.members("content")
    if not blocks:
        raise fields.fault("content", f"{fields.at('content')} is empty: a message needs content", "missing_required_parameter")
    for block in blocks:
        if turns[-1].role == "assistant" and turns[-1].results and block.text("type") not in _RESULTS:
            turns.append(_Turn("assistant"))  # what was said of the results comes behind them
        _add(turns[-1], block)


def _add(turn: _Turn, block: Fields) -> None:
    kind = block.text("type")
    if kind in _SKIPPED:
        return
    if kind == "thinking":
        turn.thinking += block.text("thinking")
    elif kind in ("tool_use", "server_tool_use"):
        turn.calls.append(_call(block))
    elif kind in _RESULTS:
        turn.results.append(_result(block))
    elif kind in _PARTS:
        turn.parts.append(_PARTS[kind](block))
    else:
        raise block.fault("type", f'blocks of type "{kind}" are not supported')


def _call(block: Fields) -> ToolCall:
    arguments = block.mapping("input") or {}
    return ToolCall(block.required_text("name"), json.dumps(arguments, ensure_ascii=False), block.required_text("id"))


def _result(block: Fields) -> Message:
    """What a tool gave; an error is told in words, since no template has a place for it."""
    content = block.value("content")
    if isinstance(content, str):
        parts: list[Part] = [Text(content)]
    elif isinstance(content, dict) and block.text("type") == "web_search_tool_result":  # an error is one object
        parts = [Text(_FAILED + str(content.get("error_code", "the search failed")))]
    else:
        parts = [_result_part(each) for each in block.members("content")]
    if block.flag("is_error"):
        parts.insert(0, Text(_FAILED if parts else _FAILED + "the tool failed"))
    return Message("tool", _joined(parts), tool_call_id=block.text("tool_use_id"))


def _result_part(block: Fields) -> Part:
    kind = block.text("type")
    if kind == "web_search_result":
        return Text(f"{block.text('title')}\n{block.text('url')}\n")
    if kind not in _PARTS:
        raise block.fault("type", f'blocks of type "{kind}" are not supported in the result of a tool')
    return _PARTS[kind](block)


def _text(block: Fields) -> Part:
    return Text(block.given_text("text"))


def _image(block: Fields) -> Part:
    source = block.member("source")
    if source is None:
        raise block.missing("source")
    if (kind := source.text("type")) != "base64":
        raise source.fault("type", f"invalid image source type: {kind}. Only base64 images are supported.")
    return Image(source.required_text("data"))


def _document(block: Fields) -> Part:
    """A document whose source is text, with its title."""
    source = block.member("source")
    if source is None:
        raise block.missing("source")
    kind = source.text("type")
    if kind == "text":
        text = source.text("data")
    elif kind == "content":
        content = source.value("content")
        text = content if isinstance(content, str) else _texts(source, "content")
    else:
        raise source.fault("type", f'documents with a source of type "{kind}" are not supported: send their text')
    head = "".join(f"{each}\n" for each in (block.text("title"), block.text("context")) if each)
    return Text(f"{head}{text}\n")


def _search_result(block: Fields) -> Part:
    head = "".join(f"{each}\n" for each in (block.text("title"), block.text("source")) if each)
    return Text(f"{head}{_texts(block, 'content')}\n")


def _texts(fields: Fields, name: str) -> str:
    return "".join(each.text("text") for each in fields.members(name))


_SKIPPED = ("redacted_thinking",)
_RESULTS = ("tool_result", "web_search_tool_result")
_PARTS: dict[str, Callable[[Fields], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}


def schema_of(tool: Fields) -> dict[str, Any] | None:
    """`input_schema` of a tool, None where it has none; raises RequestError for what is no schema."""
    schema, words = tool.value("input_schema"), f'invalid input_schema for tool "{tool.text("name")}"'
    if schema is not None and not isinstance(schema, dict):
        raise tool.fault("input_schema", words, "invalid_type")
    try:
        check_schema(schema or {}, tool.at("input_schema"))
    except RequestError as error:
        raise tool.fault("input_schema", f"{words}: {error}") from None
    return schema
