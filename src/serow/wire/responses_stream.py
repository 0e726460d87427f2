"""The events of a response while it is made: items that begin, grow and end, numbered without gaps (RESP-06)."""

from typing import Any

from serow.engines.base import Logprob
from serow.errors import SerowError
from serow.inference.events import Chosen, Delta, Done, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.wire import server_sent
from serow.wire.openai_answer import new_id
from serow.wire.responses import (
    Keep,
    Offered,
    ResponsesRequest,
    call_item,
    custom_input,
    forget,
    is_cut,
    logprobs_of_text,
    message_item,
    reasoning_item,
    response_end,
    response_head,
    text_part,
)
from serow.wire.responses_input import Item


class ResponseStream:
    """One response. `response` is what it came to, once it is finished."""

    content_type = server_sent.CONTENT_TYPE
    has_pings = True

    def __init__(self, request: ResponsesRequest, keep: Keep = forget) -> None:
        self._request = request
        self._keep = keep
        self._number = 0  # of the next event
        self._output: list[Item] = []
        self._open = ""  # the kind of the item that is not ended
        self._id = ""  # of that item
        self._begun: ToolCallStart | None = None  # the call that is open
        self._text: list[str] = []
        self._logprobs: list[Logprob] = []
        self._done: Done | None = None
        self._has_begun = False
        self.response = response_head(request)

    def _event(self, kind: str, **content: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return server_sent.named({"type": kind, "sequence_number": number, **content})

    def _item_event(self, kind: str, **content: Any) -> bytes:
        """An event about the open item."""
        return self._event(f"response.{kind}", item_id=self._id, output_index=len(self._output), **content)

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._event("response.created", response=self.response) + self._event(
            "response.in_progress", response=self.response
        )

    def feed(self, chosen: Chosen) -> bytes:
        """The events of an event."""
        _, event = chosen
        match event:
            case Delta(thinking="", text=""):
                return b""
            case Delta(thinking=""):
                return self._begin() + self._say(event)
            case Delta():
                return self._begin() + self._think(event.thinking)
            case ToolCallStart():
                return self._begin() + self._call(event)
            case ToolCallArguments():
                self._text.append(event.text)
                return b"" if self._open == "custom" else self._item_event("function_call_arguments.delta", delta=event.text)
            case ToolCallEnd():
                return self._end_call(event)
            case Done():
                self._done = event
        return b""

    def _open_item(self, kind: str, prefix: str, item: Item) -> bytes:
        before = self._close()
        self._open, self._id, self._text, self._logprobs = kind, new_id(prefix), [], []
        added = {**item, "id": self._id, "status": "in_progress"}
        return before + self._event("response.output_item.added", output_index=len(self._output), item=added)

    def _say(self, delta: Delta) -> bytes:
        before = b""
        if self._open != "message":
            before = self._open_item("message", "msg_", {**message_item("", "", []), "content": []})
            before += self._item_event("content_part.added", content_index=0, part=text_part("", []))
        self._text.append(delta.text)
        self._logprobs += delta.logprobs
        logprobs = logprobs_of_text(self._request, delta.logprobs)
        return before + self._item_event("output_text.delta", content_index=0, delta=delta.text, logprobs=logprobs)

    def _think(self, text: str) -> bytes:
        before = b""
        if self._open != "reasoning":
            before = self._open_item("reasoning", "rs_", {**reasoning_item("", ""), "summary": []})
            before += self._item_event("reasoning_summary_part.added", summary_index=0, part=_summary(""))
        self._text.append(text)
        return before + self._item_event("reasoning_summary_text.delta", summary_index=0, delta=text)

    def _call(self, start: ToolCallStart) -> bytes:
        tool = self._request.offered.get(start.name, Offered(start.name))
        call = ToolCallEnd(start.index, start.id, start.name, "")
        kind = "custom" if tool.is_custom else "call"
        opened = self._open_item(kind, "fc_", call_item("", self._request.offered, call))
        self._begun = start
        return opened

    def _end_call(self, call: ToolCallEnd) -> bytes:
        if self._open == "custom":
            text = custom_input(call.arguments)
            done = self._item_event("custom_tool_call_input.delta", delta=text)
            done += self._item_event("custom_tool_call_input.done", input=text)
        else:
            done = self._item_event("function_call_arguments.done", name=call.name, arguments=call.arguments)
        self._begun = None
        return done + self._end_item(call_item(self._id, self._request.offered, call))

    def _break_call(self, start: ToolCallStart) -> bytes:
        """End a call that is none: its text follows as a message, but its item was begun."""
        self._begun = None
        call = ToolCallEnd(start.index, start.id, start.name, "".join(self._text))
        return self._end_item(call_item(self._id, self._request.offered, call, "incomplete"))

    def _close(self, status: str = "completed") -> bytes:
        """End the open item, if any."""
        if self._begun is not None:
            return self._break_call(self._begun)
        text = "".join(self._text)
        if self._open == "message":
            logprobs = logprobs_of_text(self._request, self._logprobs)
            done = self._item_event("output_text.done", content_index=0, text=text, logprobs=logprobs)
            done += self._item_event("content_part.done", content_index=0, part=text_part(text, logprobs))
            return done + self._end_item({**message_item(self._id, text, logprobs), "status": status})
        if self._open == "reasoning":
            done = self._item_event("reasoning_summary_text.done", summary_index=0, text=text)
            done += self._item_event("reasoning_summary_part.done", summary_index=0, part=_summary(text))
            return done + self._end_item({**reasoning_item(self._id, text), "status": status})
        return b""

    def _end_item(self, item: Item) -> bytes:
        ended = self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._open = ""
        return ended

    def finish(self) -> bytes:
        """The whole response: completed, or cut."""
        sent = self._begin()
        if not (self._output or self._open):
            sent += self._say(Delta())
        status = "incomplete" if is_cut(self._done) else "completed"
        sent += self._close(status)
        if is_cut(self._done) and self._output[-1]["status"] != status:  # a call was whole before the answer was cut
            self._output[-1] = {**self._output[-1], "status": status}
        self.response = response_end(self._request, self.response, self._output, self._done)
        self._keep(self.response)
        return sent + self._event(f"response.{self.response['status']}", response=self.response)

    def fail(self, error: SerowError) -> bytes:
        """The end of a response that broke off: what there is, and why there is no more."""
        sent = self._begin()
        reason = {"code": error.code or "server_error", "message": str(error)}
        self.response = {**self.response, "status": "failed", "error": reason, "output": self._output}
        return sent + self._event("response.failed", response=self.response)

    def ping(self) -> bytes:
        """The response so far, which watchdogs count as work."""
        if not self._has_begun:
            return self._begin()
        return self._event("response.in_progress", response=self.response)


def _summary(text: str) -> dict[str, str]:
    return {"type": "summary_text", "text": text}
