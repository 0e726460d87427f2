"""Anthropic's messages: a body becomes an Ask, events become a message or its events (ANT-01 to ANT-10)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serow.errors import PromptTooLong, RequestError, SerowError
from serow.inference.ask import Ask, Conversation, Tool, ToolChoice, ToolMode
from serow.inference.events import Chosen, Delta, Done, Prompted, ToolCallArguments, ToolCallEnd, ToolCallStart, Usage
from serow.wire import server_sent
from serow.wire.anthropic_messages import messages_of, schema_of, system_of
from serow.wire.chat_messages import is_begun
from serow.wire.fields import Fields
from serow.wire.fold import Fold, Part
from serow.wire.openai_answer import new_id, warnings_body
from serow.wire.reasoning import EFFORTS
from serow.wire.response_format import format_of
from serow.wire.sampling import keep_alive_of, options_of
from serow.wire.tools import function_tool

_CHANGES_NOTHING = (
    *("metadata", "service_tier", "container", "context_management", "cache_control", "speed", "mcp_servers"),
    *("betas", "anthropic_version", "inference_geo"),
)
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_MODES: dict[str, ToolMode] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


class UnsupportedThread(RequestError):
    """A conversation that the server is to remember. The SDK's tool runner then sends the whole history (ANT-01)."""

    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__("thread is not supported: send the whole conversation", param="thread", code="unsupported_parameter")


@dataclass(frozen=True)
class MessagesRequest:
    """A validated body of POST /v1/messages or /v1/messages/count_tokens."""

    ask: Ask
    stop_sequences: tuple[str, ...] = ()


def decode(body: bytes, *, is_counted: bool = False) -> MessagesRequest:
    """Validate a body; one that is only counted needs no `max_tokens`. Raises RequestError that names the field."""
    fields = Fields.of_body(body)
    model = fields.text("model")
    if not model:
        raise fields.fault("model", "model is required", "missing_required_parameter")
    _check_required(fields, is_counted=is_counted)
    if "thread" in fields:
        raise UnsupportedThread
    stop_sequences = tuple(text for text in fields.strings("stop_sequences") if text)
    options = options_of(fields, "max_tokens")
    output = fields.member("output_config")
    effort = _effort(output)
    think = _think(fields, options, effort)
    conversation = _conversation(fields)
    ask = Ask(
        model=model,
        prompt=conversation,
        stream=fields.flag("stream"),
        options=options | ({"stop": stop_sequences} if stop_sequences else {}),
        keep_alive=keep_alive_of(fields),
        format=format_of(output.member("format"), types=("json_schema",)) if output else None,
        think=False if is_begun(conversation.messages) else think,
        think_required=False,
        truncate=False,
        shift=False,
        warnings=_warnings(fields),
    )
    return MessagesRequest(ask, stop_sequences)


def _check_required(fields: Fields, *, is_counted: bool) -> None:
    length = fields.integer("max_tokens")
    if not is_counted and (length is None or length < 1):
        raise fields.fault("max_tokens", "max_tokens is required and must be positive", "missing_required_parameter")
    if not fields.members("messages"):
        raise fields.fault("messages", "messages is required", "missing_required_parameter")


def _warnings(fields: Fields) -> tuple[str, ...]:
    fields.ignore(_CHANGES_NOTHING)
    fields.warn_of_unread()
    return tuple(fields.warnings)


def _effort(output: Fields | None) -> bool | str:
    """How hard to think, where thinking is on."""
    if output is None or not (effort := output.text("effort")):
        return True
    if not EFFORTS.get(effort):
        choices = ", ".join(name for name, level in EFFORTS.items() if level)
        raise output.fault("effort", f'{output.at("effort")} "{effort}" is not one of {choices}')
    return EFFORTS[effort]


def _think(fields: Fields, options: dict[str, Any], effort: bool | str) -> bool | str:
    """Off unless asked for, as users of the real API expect; a budget goes to the options."""
    inner = fields.member("thinking")
    if inner is None:
        return False
    kind = inner.text("type")
    inner.ignore(["display"])
    if kind not in ("enabled", "disabled", "adaptive"):
        raise inner.fault("type", f'thinking.type "{kind}" is not one of enabled, disabled, adaptive')
    budget = inner.integer("budget_tokens", 1)
    if kind == "enabled" and budget is not None:
        options["think_budget"] = budget
    return False if kind == "disabled" else effort


def _conversation(fields: Fields) -> Conversation:
    tools = _tools(fields)
    choice = _tool_choice(fields, tools)
    messages = messages_of(fields)
    if not messages:
        raise fields.fault("messages", "messages holds nothing to answer: send some content")
    return Conversation(
        (*system_of(fields), *messages),
        () if choice.mode == "none" else tools,
        choice if tools else ToolChoice(),
        folds_system=True,
    )


def _tools(fields: Fields) -> list[Tool]:
    found = []
    for number, each in enumerate(fields.members("tools")):
        kind, schema = each.text("type", "custom"), schema_of(each)
        if schema is None and kind != "custom":
            fields.warnings.append(f'tools[{number}] "{each.text("name")}" of type "{kind}" can\'t be served and was left out')
        else:
            found.append(function_tool(each, schema="input_schema"))
    return found


def _tool_choice(fields: Fields, tools: list[Tool]) -> ToolChoice:
    inner = fields.member("tool_choice")
    if inner is None:
        return ToolChoice()
    kind = inner.text("type")
    if kind not in _MODES:
        raise inner.fault("type", f'tool_choice.type "{kind}" is not one of {", ".join(_MODES)}')
    parallel = not inner.flag("disable_parallel_tool_use")
    name = inner.required_text("name") if kind == "tool" else ""
    if name and name not in {tool.name for tool in tools}:
        raise inner.fault("name", f'tool_choice names "{name}", which is not among the tools')
    if _MODES[kind] == "required" and not tools:
        raise inner.fault("type", 'tool_choice asks for a call, but there are no "tools"')
    return ToolChoice(_MODES[kind], (name,) if name else (), parallel)


def error_body(error: SerowError, request_id: str) -> dict[str, Any]:
    """An error in Anthropic's shape."""
    message = str(error)
    if isinstance(error, PromptTooLong):  # the words that clients compact on
        message = f"prompt is too long: {error.num_tokens} tokens > {error.num_ctx} maximum"
    body: dict[str, Any] = {"type": _TYPES.get(error.status, "api_error"), "message": message}
    if isinstance(error, UnsupportedThread):
        body["details"] = error.details
    return {"type": "error", "error": body, "request_id": request_id}


def whole(request: MessagesRequest, folds: Sequence[Fold]) -> dict[str, Any]:
    """The message of a request that does not stream."""
    (fold,) = folds
    return {
        **_head(request, new_id("msg_")),
        "content": _blocks(fold, with_thinking=request.ask.think is not False),
        **_end(request, fold.done, bool(fold.tool_calls)),
        "usage": _usage(fold.usage),
        **warnings_body(request.ask, [fold]),
    }


def _head(request: MessagesRequest, ident: str) -> dict[str, Any]:
    return {"id": ident, "type": "message", "role": "assistant", "model": request.ask.model}


def _blocks(fold: Fold, *, with_thinking: bool) -> list[dict[str, Any]]:
    """A thought that nobody asked for is left out: clients read the text of the first block, and some models always think."""
    return [_block(each) for each in fold.parts if with_thinking or each.kind != "thinking"]


def _block(part: Part) -> dict[str, Any]:
    if part.call is not None:
        arguments = json.loads(part.call.arguments or "{}")
        return {"type": "tool_use", "id": part.call.id, "name": part.call.name, "input": arguments}
    if part.kind == "thinking":
        return {"type": "thinking", "thinking": part.text, "signature": _signature(part.text)}
    return {"type": "text", "text": part.text}


def _signature(thinking: str) -> str:
    """What SDKs want beside a thought; nobody checks it."""
    return hashlib.sha256(thinking.encode()).hexdigest()


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_eval_count - usage.prompt_cached_count,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.prompt_cached_count,
        "output_tokens": usage.eval_count,
    }


def _end(request: MessagesRequest, done: Done | None, has_calls: bool) -> dict[str, Any]:
    """Why it ended, and the stop sequence that ended it."""
    word = done.stopping_word if done and done.stopping_word in request.stop_sequences else None
    if done is not None and done.reason == "length":
        return {"stop_reason": "model_context_window_exceeded" if done.is_context_full else "max_tokens", "stop_sequence": None}
    if has_calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    return {"stop_reason": "stop_sequence" if word else "end_turn", "stop_sequence": word}


class MessageStream:
    """The events of a message: one block after the other, each begun, filled and ended."""

    content_type = server_sent.CONTENT_TYPE
    has_pings = True

    def __init__(self, request: MessagesRequest, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._head = _head(request, new_id("msg_"))
        self._index = -1
        self._open = ""  # the type of the block that is not ended
        self._thinking = ""
        self._prompted = Prompted(0)
        self._has_begun = False
        self._has_calls = False
        self._fold = Fold()

    def feed(self, chosen: Chosen) -> bytes:
        """The events of an event."""
        _, event = chosen
        match event:
            case Prompted():
                self._prompted = event
            case Delta(thinking="", text=""):
                return b""
            case Delta(thinking=""):
                opening = {"type": "text", "text": ""}
                return self._block("text", opening) + self._delta({"type": "text_delta", "text": event.text})
            case Delta() if self._request.ask.think is False:  # a thought that nobody asked for
                return b""
            case Delta():
                self._thinking += event.thinking
                opening = {"type": "thinking", "thinking": "", "signature": ""}
                return self._block("thinking", opening) + self._delta({"type": "thinking_delta", "thinking": event.thinking})
            case ToolCallStart():
                return self._block("tool_use", {"type": "tool_use", "id": event.id, "name": event.name, "input": {}})
            case ToolCallArguments():
                return self._delta({"type": "input_json_delta", "partial_json": event.text})
            case ToolCallEnd():
                self._has_calls = True
                return self._stop()
            case Done():
                self._fold.add(event)
        return b""

    def _begin(self) -> bytes:
        """The head of the message, with the first piece: until then an error has a status of its own."""
        if self._has_begun:
            return b""
        self._has_begun = True
        prompted = self._prompted
        usage = _usage(Usage(prompted.prompt_eval_count, prompted.prompt_cached_count))
        end = {"stop_reason": None, "stop_sequence": None}
        message = {**self._head, "content": [], **end, "usage": usage}
        return server_sent.named({"type": "message_start", "message": message}) + self.ping()

    def _block(self, kind: str, opening: dict[str, Any]) -> bytes:
        """Begin a block, unless one of this type is open."""
        if self._open == kind != "tool_use":
            return b""
        before = self._begin() + self._stop()
        self._index, self._open = self._index + 1, kind
        return before + server_sent.named({"type": "content_block_start", "index": self._index, "content_block": opening})

    def _delta(self, delta: dict[str, str]) -> bytes:
        return server_sent.named({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        """End the open block, if any; a thought gets its signature."""
        if not self._open:
            return b""
        signed = b""
        if self._open == "thinking":
            signed = self._delta({"type": "signature_delta", "signature": _signature(self._thinking)})
            self._thinking = ""
        self._open = ""
        return signed + server_sent.named({"type": "content_block_stop", "index": self._index})

    def finish(self) -> bytes:
        """Why it ended and what it cost."""
        end = _end(self._request, self._fold.done, self._has_calls)
        delta = {
            "type": "message_delta",
            "delta": end,
            "usage": _usage(self._fold.usage),
            **warnings_body(self._request.ask, [self._fold]),
        }
        return self._begin() + self._stop() + server_sent.named(delta) + server_sent.named({"type": "message_stop"})

    def fail(self, error: SerowError) -> bytes:
        """The error, as the SDKs raise it; nothing follows."""
        return server_sent.named(error_body(error, self._request_id))

    def ping(self) -> bytes:
        """An event that says that work goes on."""
        return server_sent.named({"type": "ping"})
