"""The items of OpenAI's responses as a conversation: messages, thoughts, calls and their results (RESP-01, RESP-02)."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serow.errors import NotFound, RequestError
from serow.inference.ask import Image, Message, Part, Text, ToolCall
from serow.wire.chat_messages import ROLES, arguments_of, wrapped_input
from serow.wire.fields import Fields, name_of
from serow.wire.pictures import picture_data

_LARGEST_FILE = 8 << 20  # characters of a text file
_FILES = "file inputs are not currently supported: send the text itself, or a text file as a data URI"

Item = dict[str, Any]


@dataclass
class _Turn:
    """What the model thought, said and called before something else happened; results follow their calls."""

    thinking: str = ""
    parts: tuple[Part, ...] = ()
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.thinking or self.parts or self.calls)

    def message(self) -> Message:
        return Message("assistant", self.parts, self.thinking, tuple(self.calls))


class _Conversation:
    """Items as they come, gathered into messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn = _Turn()
        self._names: dict[str, str] = {}

    def close(self) -> None:
        """End the model's turn."""
        if not self._turn.is_empty:
            self.messages.append(self._turn.message())
        self._turn = _Turn()

    def say(self, role: str, parts: tuple[Part, ...]) -> None:
        """A message of anybody."""
        if role != "assistant":
            self.close()
            self.messages.append(Message(role, parts))
            return
        if self._turn.parts:
            self.close()
        self._turn.parts = parts

    def think(self, text: str) -> None:
        """A thought stands before what was said."""
        if self._turn.parts or self._turn.calls:
            self.close()
        self._turn.thinking += text

    def call(self, call: ToolCall) -> None:
        """A call of a tool."""
        self._turn.calls.append(call)
        self._names[call.id] = call.name

    def answer(self, call_id: str, parts: tuple[Part, ...]) -> None:
        """What a call came to."""
        self.close()
        self.messages.append(Message("tool", parts, tool_name=self._names.get(call_id, ""), tool_call_id=call_id))


def items_of(fields: Fields, find: Callable[[str], Item | None]) -> list[Item]:
    """`input` as items; a reference becomes the item that `find` knows by its id. Raises RequestError, NotFound."""
    value = fields.value("input")
    if isinstance(value, str) and value:
        return [{"type": "message", "role": "user", "content": value}]
    if value is not None and not isinstance(value, (str, list)):
        raise fields.mistyped("input", "a string or an array of items", value)
    if not value:
        raise fields.missing("input")
    return [_resolved(raw, each, find) for raw, each in zip(fields.items("input"), fields.members("input"), strict=True)]


def _resolved(raw: Item, fields: Fields, find: Callable[[str], Item | None]) -> Item:
    if fields.text("type") != "item_reference":
        return raw
    ident = fields.text("id")
    found = find(ident)
    if found is None:
        raise NotFound(f"Item with id '{ident}' not found", param=fields.at("id"), code="item_not_found")
    return found


def messages_of(items: Sequence[Item], warnings: list[str], path: str = "input") -> list[Message]:
    """The conversation of items; what is left out is named in `warnings`."""
    conversation = _Conversation()
    for number, raw in enumerate(items):
        _add(conversation, Fields(raw, f"{path}[{number}]", warnings))
    conversation.close()
    return conversation.messages


def _add(conversation: _Conversation, fields: Fields) -> None:
    kind = fields.text("type") or ("message" if "role" in fields else "")
    if kind == "message":
        role = ROLES.get(fields.required_text("role").lower())
        if role not in ("system", "user", "assistant"):
            raise fields.fault(
                "role", f'{fields.at("role")} "{fields.text("role")}" is not one of user, assistant, system, developer'
            )
        conversation.say(role, _content(fields, "content"))
    elif kind == "reasoning":
        conversation.think(_thought(fields))
    elif kind in _CALLS:
        conversation.call(_CALLS[kind](fields))
    elif kind in _OUTPUTS:
        conversation.answer(fields.text("call_id") or fields.text("id"), _content(fields, "output", is_result=True))
    elif not kind:
        raise fields.missing("type")
    elif kind not in _SILENTLY_SKIPPED:
        fields.warnings.append(f'{fields.at("type")} "{kind}" is not known: the item was left out')


def _thought(fields: Fields) -> str:
    """The thinking of an item: what we made of it ourselves, else its content, else its summary."""
    return fields.text("encrypted_content") or _texts(fields, "content") or _texts(fields, "summary")


def _texts(fields: Fields, name: str) -> str:
    return "\n".join(each.text("text") for each in fields.members(name))


def _function_call(fields: Fields) -> ToolCall:
    namespace = fields.text("namespace")
    name = fields.required_text("name")
    full = f"{namespace}.{name}" if namespace else name
    return ToolCall(full, arguments_of(fields, "arguments"), _call_id(fields))


def _custom_call(fields: Fields) -> ToolCall:
    return ToolCall(fields.required_text("name"), wrapped_input(fields.text("input")), _call_id(fields))


def _other_call(name: str, field: str) -> Callable[[Fields], ToolCall]:
    """A call of one of the API's own tools, as a function of that name."""

    def call(fields: Fields) -> ToolCall:
        value = fields.value(field)
        text = value if isinstance(value, str) else json.dumps(value or {}, ensure_ascii=False)
        return ToolCall(name, text, _call_id(fields))

    return call


def _call_id(fields: Fields) -> str:
    return fields.text("call_id") or fields.text("id")


_CALLS: dict[str, Callable[[Fields], ToolCall]] = {
    "function_call": _function_call,
    "custom_tool_call": _custom_call,
    "local_shell_call": _other_call("local_shell", "action"),
    "shell_call": _other_call("shell", "action"),
    "apply_patch_call": _other_call("apply_patch", "operation"),
    "tool_search_call": _other_call("tool_search", "arguments"),
}
_OUTPUTS = (
    *("function_call_output", "custom_tool_call_output", "local_shell_call_output", "shell_call_output"),
    *("apply_patch_call_output", "tool_search_output"),
)
_SILENTLY_SKIPPED = ("web_search_call",)


def _content(fields: Fields, name: str, *, is_result: bool = False) -> tuple[Part, ...]:
    """A string or parts, texts that follow each other as one."""
    value = fields.value(name)
    if value is None or isinstance(value, str):
        return (Text(value),) if value else ()
    if not isinstance(value, list):
        if is_result:
            return (Text(json.dumps(value, ensure_ascii=False)),)
        raise fields.fault(name, f"{fields.at(name)} must be a string or an array, not {name_of(value)}", "invalid_type")
    parts: list[Part] = []
    for each in fields.members(name):
        part = _part(each)
        if isinstance(part, Text) and parts and isinstance(parts[-1], Text):
            parts[-1] = Text(f"{parts[-1].text}\n{part.text}")
        else:
            parts.append(part)
    return tuple(parts)


def _part(fields: Fields) -> Part:
    kind = fields.text("type")
    if kind in ("input_text", "output_text", "text", "summary_text", "reasoning_text"):
        return Text(fields.given_text("text"))
    if kind == "refusal":
        return Text(fields.given_text("refusal"))
    if kind == "input_image":
        return Image(_picture(fields))
    if kind == "input_file":
        return Text(_file(fields))
    raise fields.fault("type", f'content parts of type "{kind}" are not supported')


def _picture(fields: Fields) -> str:
    url = fields.value("image_url")
    if isinstance(url, dict):  # as chat has it
        inner = fields.member("image_url")
        assert inner is not None
        return picture_data(inner.text("url"), inner.at("url"))
    if "file_id" in fields and not url:
        raise fields.fault("file_id", "image files are not supported, please use base64 encoded data instead")
    return picture_data(fields.text("image_url"), fields.at("image_url"))


def _file(fields: Fields) -> str:
    """A text file's name and text; raises RequestError for any other."""
    data = fields.text("file_data")
    head, comma, payload = data.partition(",")
    is_uri = bool(comma) and head.startswith("data:")
    if not data or len(data) > _LARGEST_FILE or (is_uri and not head.startswith(("data:text/", "data:application/json"))):
        raise fields.fault("file_data", _FILES)
    try:
        text = base64.b64decode(payload if is_uri else data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise RequestError(_FILES, param=fields.at("file_data"), code="invalid_value") from None
    name = fields.text("filename")
    return f"{name}\n{text}" if name else text
