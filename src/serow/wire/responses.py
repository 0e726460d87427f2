"""OpenAI's responses: a body becomes an Ask, events become a response (RESP-01 to RESP-05, RESP-07)."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serow import bounds
from serow.engines.base import Logprob
from serow.errors import RequestError
from serow.inference.ask import Ask, Conversation, Message, Text, Tool, ToolChoice
from serow.inference.events import Done, ToolCallEnd, Usage
from serow.wire.chat_messages import is_begun
from serow.wire.fields import Fields
from serow.wire.fold import Fold, Part
from serow.wire.json import encode
from serow.wire.openai_answer import logprobs_body, new_id, warnings_body
from serow.wire.openai_chat import may_truncate
from serow.wire.reasoning import think_of
from serow.wire.response_format import format_of
from serow.wire.responses_input import Item, items_of, messages_of
from serow.wire.sampling import FALLBACKS, keep_alive_of, logprobs_of, options_of
from serow.wire.tools import function_tool, tool_choice_of, warn_of_skipped

_CHANGES_NOTHING = (
    *("user", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "include"),
    *("stream_options", "store", "client_metadata", "max_tool_calls"),
)
_LOGPROBS = "message.output_text.logprobs"
_CUSTOM_SCHEMA = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


Keep = Callable[[dict[str, Any]], None]  # takes a finished response


def forget(_: dict[str, Any]) -> None:
    """Keep nothing."""


@dataclass(frozen=True)
class Offered:
    """A tool as it was offered: how a call of it comes back."""

    name: str
    namespace: str = ""
    is_custom: bool = False


@dataclass(frozen=True)
class ResponsesRequest:
    """A validated body of POST /v1/responses. `items`: the conversation so far; `repeated`: what the answer says again."""

    ask: Ask
    items: tuple[Item, ...]
    repeated: dict[str, Any]
    offered: dict[str, Offered] = field(default_factory=dict)  # by the name that the model knows
    is_stored: bool = True
    size: int = 0  # bytes of the body; the items of earlier answers left out


@dataclass(frozen=True)
class Memory:
    """What earlier answers left: the items of the answer that this one follows, and each item by its id."""

    items_of: Callable[[str], Sequence[Item] | None]
    item: Callable[[str], Item | None]


def decode(body: bytes, memory: Memory, *, truncates: bool = False) -> ResponsesRequest:
    """Validate a body, which is cut as the setting says where it says nothing; raises RequestError that names the field."""
    fields = Fields.of_body(body)
    model = fields.text("model")
    if not model:
        raise fields.fault("model", "model is required", "missing_required_parameter")
    _check_unsupported(fields)
    items = [*_earlier(fields, memory), *items_of(fields, memory.item)]
    conversation, offered = _conversation(fields, items)
    ask = Ask(
        model=model,
        prompt=conversation,
        stream=fields.flag("stream"),
        options=options_of(fields, "max_output_tokens"),
        fallbacks=FALLBACKS,
        keep_alive=keep_alive_of(fields),
        format=_format(fields),
        think=False if is_begun(conversation.messages) else think_of(fields),
        think_required=False,
        truncate=may_truncate(fields, default=truncates),
        shift=False,
        logprobs=_LOGPROBS in fields.strings("include"),
        top_logprobs=logprobs_of(fields),
    )
    is_stored = fields.flag("store", default=True)
    repeated = _repeated(fields, ask)
    if len(body) > bounds.REPEATED.limit:
        bounds.REPEATED.check(len(encode(repeated)), "what the answer repeats")
    fields.ignore(_CHANGES_NOTHING)
    fields.warn_of_unread()
    warned = replace(ask, warnings=tuple(fields.warnings))
    return ResponsesRequest(warned, tuple(items), repeated, offered, is_stored, len(body))


def _conversation(fields: Fields, items: Sequence[Item]) -> tuple[Conversation, dict[str, Offered]]:
    """What is to be answered, and the tools that are offered, by the name that the model knows."""
    messages = messages_of(items, fields.warnings)
    if not messages:
        raise fields.fault("input", "input holds nothing to answer: send a message")
    tools, offered = _tools(fields)
    choice = tool_choice_of(fields, tools, prefixes={f"{each.namespace}." for each in offered.values() if each.namespace})
    shown = () if choice.mode == "none" else tools
    return Conversation([*_instructions(fields), *messages], shown, choice if tools else ToolChoice()), offered


def _format(fields: Fields) -> Any:
    text = fields.member("text")
    if not text:
        return None
    text.ignore(["verbosity"])
    return format_of(text.member("format"))


def _check_unsupported(fields: Fields) -> None:
    if fields.flag("background"):
        raise fields.fault("background", "background is not supported: an answer is made while its client waits")
    if fields.value("conversation") is not None:
        raise fields.fault("conversation", "conversation is not supported: send previous_response_id, or the whole input")
    if fields.value("prompt") is not None:
        raise fields.fault("prompt", "prompt templates are not supported: send instructions and input")


def _earlier(fields: Fields, memory: Memory) -> Sequence[Item]:
    """The items of the answer that this one follows, and of all before it."""
    ident = fields.text("previous_response_id")
    if not ident:
        return ()
    items = memory.items_of(ident)
    if items is None:
        text = f"Previous response with id '{ident}' not found."
        raise RequestError(text, param="previous_response_id", code="previous_response_not_found")
    return items


def _instructions(fields: Fields) -> list[Message]:
    text = fields.text("instructions")
    return [Message("system", (Text(text),))] if text else []


def _tools(fields: Fields) -> tuple[list[Tool], dict[str, Offered]]:
    """The tools that the model is offered; what can't be served is left out with a warning."""
    found: list[Tool] = []
    offered: dict[str, Offered] = {}
    skipped: list[tuple[int, str]] = []
    for number, each in enumerate(fields.members("tools")):
        kind = each.text("type", "function")
        if kind == "namespace":
            _offer_namespace(each, found, offered)
        elif kind in ("function", "custom"):
            _offer(each, "", found, offered)
        else:
            skipped.append((number, kind))
    warn_of_skipped(fields, skipped, is_none_left=False)
    return found, offered


def _offer_namespace(fields: Fields, found: list[Tool], offered: dict[str, Offered]) -> None:
    namespace = fields.required_text("name")
    for each in fields.members("tools"):
        _offer(each, namespace, found, offered)


def _offer(fields: Fields, namespace: str, found: list[Tool], offered: dict[str, Offered]) -> None:
    prefix = f"{namespace}." if namespace else ""
    is_custom = fields.text("type", "function") == "custom"
    tool = function_tool(fields, prefix=prefix, default=_CUSTOM_SCHEMA) if is_custom else function_tool(fields, prefix=prefix)
    found.append(tool)
    offered[tool.name] = Offered(tool.name.removeprefix(prefix), namespace, is_custom)


def _repeated(fields: Fields, ask: Ask) -> dict[str, Any]:
    """The values of the request, or the API's own where it gives none (RESP-05)."""
    reasoning = fields.mapping("reasoning")
    text = fields.mapping("text") or {}
    tools = [_repeated_tool(each) for each in fields.items("tools")]
    return {
        "previous_response_id": fields.text("previous_response_id") or None,
        "instructions": fields.text("instructions") or None,
        "tools": tools,
        "tool_choice": fields.value("tool_choice") or "auto",
        "parallel_tool_calls": fields.flag("parallel_tool_calls", default=True),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "temperature": ask.options.get("temperature", 1),
        "top_p": ask.options.get("top_p", 1),
        "presence_penalty": ask.options.get("presence_penalty", 0),
        "frequency_penalty": ask.options.get("frequency_penalty", 0),
        "top_logprobs": ask.top_logprobs,
        "truncation": "auto" if ask.truncate else "disabled",
        "reasoning": reasoning,
        "max_output_tokens": fields.integer("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": fields.mapping("metadata") or {},
        "store": fields.flag("store", default=True),
        "background": False,
        "service_tier": "default",
        "safety_identifier": fields.text("safety_identifier") or None,
        "prompt_cache_key": fields.text("prompt_cache_key") or None,
    }


def _repeated_tool(tool: Any) -> Any:
    return {"strict": None, **tool} if isinstance(tool, dict) and tool.get("type", "function") == "function" else tool


def response_head(request: ResponsesRequest) -> dict[str, Any]:
    """What a response says from its beginning to its end."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": request.ask.model,
        **request.repeated,
        "output": [],
        "usage": None,
    }


def response_end(request: ResponsesRequest, head: dict[str, Any], output: list[Item], done: Done | None) -> dict[str, Any]:
    """The response when it is over: whole, or cut."""
    fold = Fold(done=done)
    reason = {"reason": "max_output_tokens"} if is_cut(done) else None
    return {
        **head,
        "completed_at": None if reason else int(time.time()),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": reason,
        "output": output,
        "usage": usage_body(fold.usage),
        **warnings_body(request.ask, [fold]),
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """What it cost, with the details."""
    return {
        "input_tokens": usage.prompt_eval_count,
        "input_tokens_details": {"cached_tokens": usage.prompt_cached_count},
        "output_tokens": usage.eval_count,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_count},
        "total_tokens": usage.prompt_eval_count + usage.eval_count,
    }


def whole(request: ResponsesRequest, folds: Sequence[Fold], keep: Keep = forget) -> dict[str, Any]:
    """The response of a request that does not stream; `keep` is told of it."""
    (fold,) = folds
    output = [_item(request, each) for each in fold.parts or [Part("text")]]
    if is_cut(fold.done):
        output[-1]["status"] = "incomplete"
    response = response_end(request, response_head(request), output, fold.done)
    keep(response)
    return response


def is_cut(done: Done | None) -> bool:
    """Whether an answer ended because of its length."""
    return done is not None and done.reason == "length"


def _item(request: ResponsesRequest, part: Part) -> Item:
    if part.call is not None:
        return call_item(new_id("fc_"), request.offered, part.call)
    if part.kind == "thinking":
        return reasoning_item(new_id("rs_"), part.text)
    return message_item(new_id("msg_"), part.text, logprobs_of_text(request, part.logprobs))


def logprobs_of_text(request: ResponsesRequest, logprobs: Sequence[Logprob]) -> list[Any]:
    """Log-probabilities where they were asked for."""
    found: list[Any] = logprobs_body(logprobs)["content"] if request.ask.logprobs else []
    return found


def reasoning_item(ident: str, thinking: str) -> Item:
    """A thought; its text is what comes back in `encrypted_content`, too."""
    summary = [{"type": "summary_text", "text": thinking}]
    return {"id": ident, "type": "reasoning", "status": "completed", "summary": summary, "encrypted_content": thinking}


def message_item(ident: str, text: str, logprobs: list[Any]) -> Item:
    """What was said."""
    part = text_part(text, logprobs)
    return {"id": ident, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def text_part(text: str, logprobs: list[Any]) -> dict[str, Any]:
    """The one part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def call_item(ident: str, offered: dict[str, Offered], call: ToolCallEnd, status: str = "completed") -> Item:
    """A call, as the tool was offered: with its namespace apart, or of a custom tool."""
    tool = offered.get(call.name, Offered(call.name))
    if tool.is_custom:
        kind, content = "custom_tool_call", {"input": custom_input(call.arguments)}
    else:
        kind, content = "function_call", {"arguments": call.arguments}
    namespace = {"namespace": tool.namespace} if tool.namespace else {}
    return {"id": ident, "type": kind, "status": status, "call_id": call.id, **namespace, "name": tool.name, **content}


def custom_input(arguments: str) -> str:
    """The text that a custom tool gets, out of the function's arguments."""
    try:
        value = json.loads(arguments or "{}").get("input", "")
    except (ValueError, AttributeError):
        return arguments
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
