"""The messages of OpenAI's chat: roles, parts, calls and their results (OAI-04, OAI-05, OAI-13)."""

from collections.abc import Sequence

import msgspec

from serow.errors import RequestError
from serow.inference.ask import Image, Message, Part, Text, ToolCall
from serow.wire.fields import Fields, name_of
from serow.wire.pictures import picture_data

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",  # of OpenAI's older API
}
_MAY_BE_EMPTY = ("assistant", "tool")


def messages_of(fields: Fields) -> tuple[Message, ...]:
    """The conversation; raises RequestError that names the message at fault."""
    found = fields.members("messages")
    if not found:
        raise RequestError("[] is too short - 'messages'", param=fields.at("messages"), code="missing_required_parameter")
    return tuple(_message(each) for each in found)


def is_begun(messages: Sequence[Message]) -> bool:
    """Whether the conversation ends in an answer that goes on: it is written without another thought (OAI-04, ANT-03)."""
    last = messages[-1]
    return last.role == "assistant" and bool(last.text) and not last.tool_calls


def _message(fields: Fields) -> Message:
    given = fields.required_text("role")
    role = ROLES.get(given.lower())
    if role is None:
        raise fields.fault("role", f'{fields.at("role")} "{given}" is not one of {", ".join(ROLES)}')
    calls = _tool_calls(fields) if role == "assistant" else ()
    return Message(
        role,
        content=_content(fields, role),
        thinking=(fields.text("reasoning") or fields.text("reasoning_content")) if role == "assistant" else "",
        tool_calls=calls,
        tool_name=fields.text("name") if role == "tool" else "",
        tool_call_id=fields.text("tool_call_id") if role == "tool" else "",
    )


def _content(fields: Fields, role: str) -> tuple[Part, ...]:
    content = fields.value("content")
    if isinstance(content, str):
        return (Text(content),)
    parts = parts_of(fields) if isinstance(content, list) else ()
    if parts or (role in _MAY_BE_EMPTY and not content):
        return parts
    if content is None:
        raise fields.fault("content", "invalid message content type: <nil>")
    if isinstance(content, list):
        raise fields.fault("content", f"{fields.at('content')} has no parts")
    text = f"invalid message content type: {name_of(content)}"
    raise fields.fault("content", text, "invalid_type")


def parts_of(fields: Fields) -> tuple[Part, ...]:
    """The parts where they stand; texts that follow each other are one, joined by a newline."""
    found: list[Part] = []
    for each in fields.members("content"):
        part = _part(each)
        if isinstance(part, Text) and found and isinstance(found[-1], Text):
            part = Text(f"{found.pop().text}\n{part.text}")  # type: ignore[union-attr]
        found.append(part)
    return tuple(found)


def _part(fields: Fields) -> Part:
    kind = fields.text("type")
    if kind in ("text", "refusal"):
        return Text(fields.given_text(kind))
    if kind == "image_url":
        return Image(_picture(fields))
    raise fields.fault("type", f'content parts of type "{kind}" are not supported: send text or image_url')


def _picture(fields: Fields) -> str:
    url = fields.value("image_url")
    if isinstance(url, str):
        return picture_data(url, fields.at("image_url"))
    inner = fields.member("image_url")
    if inner is None:
        raise fields.missing("image_url")
    return picture_data(inner.text("url"), inner.at("url"))


def _tool_calls(fields: Fields) -> tuple[ToolCall, ...]:
    calls = [_tool_call(each) for each in fields.members("tool_calls")]
    old = fields.member("function_call")
    return (*calls, *([] if old is None else [ToolCall(old.required_text("name"), arguments_of(old, "arguments"))]))


def _tool_call(fields: Fields) -> ToolCall:
    kind = fields.text("type", "function")
    inner = fields.member(kind)
    if inner is None:
        raise fields.missing(kind)
    name = inner.required_text("name")
    if kind == "custom":
        return ToolCall(name, wrapped_input(inner.text("input")), fields.text("id"))
    return ToolCall(name, arguments_of(inner, "arguments"), fields.text("id"))


def arguments_of(fields: Fields, name: str) -> str:
    """The arguments as the client wrote them, JSON or not; nothing is an object without any."""
    value = fields.value(name)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return (fields.text(name).strip() and fields.text(name)) or "{}"


def wrapped_input(text: str) -> str:
    """The text that a custom tool takes, as the arguments of the function that stands for it."""
    return msgspec.json.encode({"input": text}).decode()
