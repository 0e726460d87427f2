"""POST /api/chat of Ollama's dialect: messages and tools become an Ask, Events become records (CHAT-01 to CHAT-13)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from serow import bounds
from serow.duration import parse_keep_alive
from serow.engines.base import Logprob
from serow.errors import RequestError
from serow.inference.ask import (
    Ask,
    Conversation,
    Image,
    Message,
    Nothing,
    Part,
    Prompt,
    Text,
    ThinkLevel,
    Tool,
    ToolCall,
    ToolChoice,
)
from serow.inference.events import Delta, Done, Event, Rendered, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.options import parse_options
from serow.wire.chat_messages import parts_of
from serow.wire.fields import Fields
from serow.wire.fold import Fold
from serow.wire.json import decode_object, encode_line, now
from serow.wire.lines import Lines
from serow.wire.ollama import DebugInfo, check_top_logprobs, done_fields, think_of
from serow.wire.tool_schema import check_schema
from serow.wire.tools import NO_ARGUMENTS, tool_choice_of


class FunctionCall(Struct, frozen=True, kw_only=True):
    """The function of a call. `arguments` is an object, in an answer with keys and numbers as the model wrote them."""

    index: int = 0
    name: str = ""
    arguments: dict[str, Any] = {}


class Call(Struct, frozen=True, kw_only=True):
    """A call of a tool."""

    id: str = ""
    function: FunctionCall


class ChatMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message. In a request a list of parts of type text and image_url does for `content`, too."""

    role: str
    content: str
    thinking: str | UnsetType = UNSET
    images: list[str] | UnsetType = UNSET
    tool_calls: list[Call] | UnsetType = UNSET
    tool_name: str | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A body of POST /api/chat."""

    model: str
    messages: list[ChatMessage] = []
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    stream: bool = True
    format: Any = None
    options: dict[str, Any] = {}
    keep_alive: float | None = None
    think: bool | ThinkLevel | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")


class ChatRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of an answer: a streamed piece, a call, or the final one (CHAT-08)."""

    model: str
    created_at: str
    message: ChatMessage
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    prompt_cached_count: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[Logprob] | UnsetType = UNSET
    truncated: int | UnsetType = UNSET
    format_valid: bool | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")


_FIELDS = {field.encode_name for field in msgspec.structs.fields(ChatRequest)}


def decode_chat(body: bytes) -> Ask:
    """Validate a body of POST /api/chat; raises RequestError that names the field."""
    raw = decode_object(body)
    fields = Fields(raw)
    messages = tuple(map(_message, fields.members("messages", null={})))
    tools = [_tool(each) for each in fields.members("tools")]
    choice = tool_choice_of(fields, tools)
    keep_alive = parse_keep_alive(raw["keep_alive"]) if "keep_alive" in raw else None
    is_unload = not messages and keep_alive == 0
    given = fields.mapping("options") or {}
    options, unknown = parse_options({} if is_unload else given)
    ask = Ask(
        model=fields.text("model"),
        prompt=_prompt(messages, tools, choice),
        stream=fields.flag("stream", default=True),
        options=options,
        keep_alive=keep_alive,
        format=fields.value("format"),
        think=think_of(raw["think"]) if "think" in raw else None,
        truncate=fields.flag("truncate", default=True),
        shift=fields.flag("shift", default=True),
        logprobs=fields.flag("logprobs"),
        top_logprobs=fields.integer("top_logprobs") or 0,
        render_only=fields.flag("_debug_render_only"),
        warnings=(
            *bounds.ignored("field", [key for key in raw if key not in _FIELDS]),
            *fields.warnings,
            *bounds.ignored("option", unknown),
        ),
    )
    check_top_logprobs(ask.top_logprobs)
    if not ask.model:
        raise RequestError("model is required")
    return ask


def _prompt(messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice) -> Prompt:
    """The conversation; without messages the model is loaded or unloaded (CHAT-03)."""
    return Conversation(messages, tools, choice) if messages else Nothing("chat", tools)


def _message(fields: Fields) -> Message:
    content = parts_of(fields) if isinstance(fields.value("content"), list) else _text(fields)
    return Message(
        fields.text("role").lower(),
        content=(*map(Image, fields.strings("images")), *content),
        thinking=fields.text("thinking"),
        tool_calls=tuple(map(_tool_call, fields.members("tool_calls"))),
        tool_name=fields.text("tool_name") or fields.text("name"),
        tool_call_id=fields.text("tool_call_id"),
    )


def _text(fields: Fields) -> tuple[Part, ...]:
    text = fields.text("content")
    return (Text(text),) if text else ()


def _tool_call(fields: Fields) -> ToolCall:
    inner = fields.member("function")
    if inner is None:
        raise fields.missing("function")
    inner.integer("index")  # templates get the place instead
    return ToolCall(inner.text("name"), _arguments(inner), fields.text("id"))


def _arguments(fields: Fields) -> str:
    """The JSON text of an object, which a string may hold, too (TOOL-06)."""
    given = fields.value("arguments")
    try:
        value = json.loads(given) if isinstance(given, str) else given
        text = json.dumps(value or {}, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise fields.mistyped("arguments", "an object", given) from None
    if value is not None and not isinstance(value, dict):
        raise fields.mistyped("arguments", "an object", value)
    return text


def _tool(fields: Fields) -> Tool:
    """A tool; the template reads the client's own object, with what may be absent filled in (TOOL-01)."""
    kind = fields.text("type") or "function"
    if kind != "function":
        raise fields.fault("type", f'{fields.at("type")} "{bounds.quoted(kind)}" is not function, the only type of a tool')
    inner = fields.member("function")
    if inner is None:
        raise fields.missing("function")
    name, parameters = inner.required_text("name"), inner.mapping("parameters") or NO_ARGUMENTS
    check_schema(parameters, inner.at("parameters"))
    return Tool(name, parameters, _definition(fields.raw, inner.raw, parameters), inner.text("description"))


def _definition(tool: Mapping[str, Any], function: Mapping[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The client's own object, in its order, with what may be absent."""
    inner = {_spelt(name): value for name, value in function.items() if name.lower() != "parameters" or value}
    known = {"type": "function", "function": {**inner, "parameters": parameters}}
    spelt = {name.lower() if name.lower() in known else name: known.get(name.lower(), value) for name, value in tool.items()}
    return spelt if "type" in spelt else {**known, **spelt}


def _spelt(name: str) -> str:
    """The name of a function's member as templates know it: clients may write it in any case."""
    return name.lower() if name.lower() in ("name", "description", "parameters") else name


class ChatStream(Lines):
    """The events of one answer as lines of /api/chat."""

    def __init__(self, model: str) -> None:
        self._model = model  # as asked
        self._logprobs: list[Logprob] = []  # of a call that is not whole yet
        self._num_calls = 0

    def feed(self, event: Event) -> bytes:
        """The line of an event, b"" for one that has none."""
        match event:
            case Delta(text, thinking, logprobs):
                logprobs, self._logprobs = self._logprobs + logprobs, []  # of a call that broke off, too
                return self._line(ChatMessage(role="assistant", content=text, thinking=thinking or UNSET), logprobs)
            case ToolCallStart() | ToolCallArguments():
                self._logprobs += event.logprobs
                return b""
            case ToolCallEnd():
                logprobs, self._logprobs = self._logprobs + event.logprobs, []
                self._num_calls += 1
                call = _call(event, self._num_calls - 1)
                return self._line(ChatMessage(role="assistant", content="", tool_calls=[call]), logprobs)
            case Done():
                return encode_line(done_record(self._model, event))
            case Rendered():
                return encode_line(rendered_record(self._model, event))
            case _:
                return b""

    def _line(self, message: ChatMessage, logprobs: list[Logprob]) -> bytes:
        return encode_line(
            ChatRecord(model=self._model, created_at=now(), message=message, done=False, logprobs=logprobs or UNSET)
        )


class ChatWhole(Fold):
    """The events of one answer as the one record of /api/chat."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model  # as asked

    def value(self) -> ChatRecord:
        """The record."""
        if self.rendered:
            return rendered_record(self._model, self.rendered)
        assert self.done is not None  # a flow that ends without it has raised
        calls = [_call(event, number) for number, event in enumerate(self.tool_calls)]
        message = ChatMessage(role="assistant", content=self.text, thinking=self.thinking or UNSET, tool_calls=calls or UNSET)
        record = done_record(self._model, self.done)
        return msgspec.structs.replace(record, message=message, logprobs=self.logprobs or UNSET)


def _call(event: ToolCallEnd, index: int) -> Call:
    """A call; `index` counts those that are whole."""
    arguments: Any = Raw(event.arguments.encode())  # as the model wrote it
    return Call(id=event.id, function=FunctionCall(index=index, name=event.name, arguments=arguments))


def rendered_record(model: str, event: Rendered) -> ChatRecord:
    """The record that shows a prompt."""
    info = DebugInfo(event.text, event.image_count or UNSET)
    message = ChatMessage(role="", content="")
    return ChatRecord(
        model=model, created_at=now(), message=message, done=False, debug_info=info, warnings=event.warnings or UNSET
    )


def done_record(model: str, event: Done) -> ChatRecord:
    """The last record."""
    message = ChatMessage(role="assistant", content="")
    return ChatRecord(model=model, created_at=now(), message=message, done=True, **done_fields(event))
