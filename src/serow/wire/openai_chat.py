"""OpenAI's chat completions: a body becomes an Ask for each choice, events become an answer or chunks (OAI-01 to OAI-14)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from serow.errors import SerowError
from serow.inference.ask import Ask, Conversation, ToolChoice
from serow.inference.events import Chosen, Delta, Done, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.wire import server_sent
from serow.wire.chat_messages import is_begun, messages_of
from serow.wire.fields import Fields
from serow.wire.fold import Fold
from serow.wire.openai_answer import FINGERPRINT, error_body, finish_reason, logprobs_body, new_id, usage_body, warnings_body
from serow.wire.reasoning import think_of
from serow.wire.response_format import format_of
from serow.wire.sampling import FALLBACKS, keep_alive_of, logprobs_of, options_of
from serow.wire.tools import chat_tools, old_choice_of, old_functions, tool_choice_of

MOST_CHOICES = 16
CHANGES_NOTHING = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
)


@dataclass(frozen=True)
class ChatRequest:
    """A validated body of POST /v1/chat/completions: one Ask a choice."""

    asks: tuple[Ask, ...]
    include_usage: bool = False

    @property
    def ask(self) -> Ask:
        """The first choice's."""
        return self.asks[0]


def decode(body: bytes, *, truncates: bool = False) -> ChatRequest:
    """Validate a body, which is cut as the setting says where it says nothing; raises RequestError that names the field."""
    fields = Fields.of_body(body)
    conversation = _conversation(fields)
    model = fields.text("model")
    if not model:
        raise fields.fault("model", "model is required", "missing_required_parameter")
    ask = Ask(
        model=model,
        prompt=conversation,
        stream=fields.flag("stream"),
        options=options_of(fields, "max_completion_tokens", "max_tokens"),
        fallbacks=FALLBACKS,
        keep_alive=keep_alive_of(fields),
        format=format_of(fields.member("response_format"), wrapper="json_schema"),
        think=False if is_begun(conversation.messages) else think_of(fields),
        think_required=False,
        truncate=may_truncate(fields, default=truncates),
        shift=False,
        logprobs=fields.flag("logprobs"),
        top_logprobs=logprobs_of(fields),
        render_only=fields.flag("_debug_render_only"),
    )
    num_choices = fields.integer("n", 1, MOST_CHOICES) or 1
    include_usage = include_usage_of(fields)
    _check_modalities(fields)
    fields.ignore(CHANGES_NOTHING)
    fields.warn_of_unread()
    return ChatRequest(choices_of(replace(ask, warnings=tuple(fields.warnings)), num_choices), include_usage)


def _conversation(fields: Fields) -> Conversation:
    messages = messages_of(fields)
    tools = [*chat_tools(fields), *old_functions(fields)]
    is_old = "function_call" in fields and "tool_choice" not in fields
    choice = old_choice_of(fields, tools) if is_old else tool_choice_of(fields, tools)
    kwargs = fields.mapping("chat_template_kwargs") or {}
    return Conversation(messages, () if choice.mode == "none" else tools, choice if tools else ToolChoice(), kwargs)


def _check_modalities(fields: Fields) -> None:
    for number, each in enumerate(fields.strings("modalities")):
        if each != "text":
            raise fields.fault(f"modalities[{number}]", f'the modality "{each}" is not supported: text is')


def may_truncate(fields: Fields, *, default: bool) -> bool:
    """Whether a prompt that is too long may lose its oldest turns (OAI-07)."""
    value = fields.text("truncation", "auto" if default else "disabled")
    if value not in ("auto", "disabled"):
        raise fields.fault("truncation", f'truncation "{value}" is not one of auto, disabled')
    return value == "auto"


def include_usage_of(fields: Fields) -> bool:
    """Whether a stream ends with what it cost."""
    inner = fields.member("stream_options")
    if inner is None:
        return False
    inner.ignore(["include_obfuscation"])
    return inner.flag("include_usage")


def choices_of(ask: Ask, number: int) -> tuple[Ask, ...]:
    """One Ask for each choice; a seed counts on from the first one's."""
    seed = ask.options.get("seed", -1)
    if number == 1 or seed < 0:
        return (ask,) * number
    return tuple(replace(ask, options={**ask.options, "seed": seed + each}) for each in range(number))


def whole(request: ChatRequest, folds: Sequence[Fold]) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    answer: dict[str, Any] = {
        **_head(request, "chat.completion"),
        "choices": [_choice(request.ask, number, fold) for number, fold in enumerate(folds)],
        "usage": usage_body(folds),
    }
    if rendered := folds[0].rendered:
        info = {"rendered_template": rendered.text}
        answer["_debug_info"] = info | ({"image_count": rendered.image_count} if rendered.image_count else {})
    return answer | warnings_body(request.ask, folds)


def _head(request: ChatRequest, kind: str) -> dict[str, Any]:
    return {
        "id": new_id("chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": request.ask.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(ask: Ask, number: int, fold: Fold) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": fold.text}
    if fold.thinking:
        message |= _thought(fold.thinking)
    if fold.tool_calls:
        message["content"] = fold.text or None
        message["tool_calls"] = [_tool_call(each) for each in fold.tool_calls]
    choice = {"index": number, "message": message, "finish_reason": finish_reason(fold.done, bool(fold.tool_calls))}
    return choice | ({"logprobs": logprobs_body(fold.logprobs)} if ask.logprobs else {})


def _thought(text: str) -> dict[str, str]:
    """The thinking under both of the names that clients read."""
    return {"reasoning": text, "reasoning_content": text}


def _tool_call(call: ToolCallEnd) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


class ChatStream:
    """The chunks of an answer; those of several choices come as they are made, told apart by `index`."""

    content_type = server_sent.CONTENT_TYPE
    has_pings = True

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._head = _head(request, "chat.completion.chunk")
        self._begun: set[int] = set()
        self._called: set[int] = set()
        self._folds: list[Fold] = [Fold() for _ in request.asks]

    def feed(self, chosen: Chosen) -> bytes:
        """The chunk of an event."""
        choice, event = chosen
        match event:
            case Delta(thinking="", text=text, logprobs=logprobs):
                return self._delta(choice, {"content": text}, logprobs)
            case Delta():
                return self._delta(choice, {"content": "", **_thought(event.thinking)}, event.logprobs)
            case ToolCallStart():
                function = {"name": event.name, "arguments": ""}
                call = {"index": event.index, "id": event.id, "type": "function", "function": function}
                return self._delta(choice, {"tool_calls": [call]}, event.logprobs)
            case ToolCallArguments():
                call = {"index": event.index, "function": {"arguments": event.text}}
                return self._delta(choice, {"tool_calls": [call]}, event.logprobs)
            case ToolCallEnd():
                self._called.add(choice)
                return self._delta(choice, {}, event.logprobs) if event.logprobs else b""
            case Done():
                return self._end(choice, event)
        return b""

    def _delta(self, choice: int, delta: dict[str, Any], logprobs: list[Any]) -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = {"role": "assistant", "content": None if "tool_calls" in delta else "", **delta}
        body = {"index": choice, "delta": delta, "finish_reason": None}
        if self._request.ask.logprobs and logprobs:
            body["logprobs"] = logprobs_body(logprobs)
        return self._chunk([body])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._request.include_usage else {}
        return server_sent.data({**self._head, "choices": choices, **usage, **more})

    def _end(self, choice: int, done: Done) -> bytes:
        self._folds[choice].add(done)
        first = b"" if choice in self._begun else self._delta(choice, {"content": ""}, [])
        reason = finish_reason(done, choice in self._called)
        is_last = all(fold.done for fold in self._folds) and not self._request.include_usage
        warnings = warnings_body(self._request.ask, self._folds) if is_last else {}
        return first + self._chunk([{"index": choice, "delta": {}, "finish_reason": reason}], **warnings)

    def finish(self) -> bytes:
        """What it cost, where it was asked for, and the end."""
        if not self._request.include_usage:
            return server_sent.DONE
        usage = usage_body(self._folds)
        return self._chunk([], usage=usage, **warnings_body(self._request.ask, self._folds)) + server_sent.DONE

    def fail(self, error: SerowError) -> bytes:
        """The error, as the SDKs raise it; nothing follows."""
        return server_sent.data(error_body(error))

    def ping(self) -> bytes:
        """A comment."""
        return server_sent.COMMENT
