"""The one parser of what a model writes: text goes in as it is sampled, events come out.

Thinking first; a call that opens inside the thinking ends it. Text before and after calls is told as it comes, without the
white space around calls. Nothing of a tag or of half a call is ever told as text; what turns out to be no call is, tags
included, with a warning.
"""

from collections.abc import Callable, Generator, Sequence

import msgspec

from serow.engines.base import Logprob
from serow.inference.ask import Tool
from serow.inference.events import Delta, Event, ToolCallStart
from serow.output.calls import Call
from serow.output.format import CallFormat, Kind
from serow.output.json_calls import read_named, read_object
from serow.output.pythonic import read_pythonic
from serow.output.source import Ended, Reading, Source, Unreadable
from serow.output.tagged import read_tagged
from serow.output.tags import TagFinder
from serow.output.thinking import ThinkingParser, ThinkingTags

CUT = "a tool call was cut off"
_READERS: dict[Kind, Callable[[Source, CallFormat, Call], Reading]] = {
    Kind.OBJECT: read_object,
    Kind.NAMED: read_named,
    Kind.TAGGED: read_tagged,
    Kind.PYTHONIC: read_pythonic,
}
_PART = "its text is part of the content"
_MOST_WARNINGS = 8


class OutputParser:
    """One answer: `feed` what is sampled, then `finish`.

    `begun` is what the prompt holds behind an opening thinking tag, None when none is open. Without `format` or `tools` nothing
    is read as a call.
    """

    def __init__(
        self,
        tags: ThinkingTags | None = None,
        begun: str | None = None,
        format: CallFormat | None = None,
        tools: Sequence[Tool] = (),
    ) -> None:
        self.warnings: list[str] = []
        self.num_calls = 0
        self.call: Call | None = None  # which is being read
        self._thinking = ThinkingParser(tags, begun) if tags else None
        self._events: list[Event] = []
        self._source = Source()
        self._tools = {tool.name: tool for tool in tools}
        self._ids: set[str] = set()
        self._next_index = 0
        self._space: list[str] = []  # held back: white space before a call belongs to nobody
        self._is_behind_call = False
        self._may_be_bare = True
        self._format = format if tools else None
        self._reading = self._read(self._format) if self._format else None
        if self._reading:
            next(self._reading)

    @property
    def is_thinking(self) -> bool:
        """Whether a thinking tag is open."""
        return self._thinking is not None and self._thinking.is_thinking

    @property
    def has_answered(self) -> bool:
        """Whether the thinking is over, or never began: what is fed goes to the answer."""
        return self._thinking is None or self._thinking.has_answered

    def feed(self, text: str, logprobs: list[Logprob] | None = None) -> list[Event]:
        """The events that `text` makes; `logprobs` come with the first, alone where there is none."""
        if self._reading is None and self.has_answered:  # nearly always: there is nothing to tell apart
            return [Delta(text, logprobs=logprobs or [])] if text or logprobs else []
        if text:
            if self._reading:
                self._source.put(text)
                next(self._reading)
            else:
                self._answer(self._think(text))
        return self._told(logprobs)

    def end_thinking(self, logprobs: list[Logprob] | None = None) -> list[Event]:
        """The thinking was cut: what is fed from now on is the answer, without white space before it."""
        if self._thinking:
            self._think_aloud(self._thinking.end_thinking())
        return self._told(logprobs)

    def finish(self, *, is_cut: bool = False) -> list[Event]:
        """What was held back. `is_cut`: a limit ended the text, not the model; a call in the making is text then."""
        if self._reading:
            self._source.has_ended, self._source.is_cut = True, is_cut
            next(self._reading, None)
        self._end_thinking()
        if self._space and not self._is_behind_call:
            self._tell(Delta("".join(self._space)))
        return self._told(None)

    def _told(self, logprobs: list[Logprob] | None) -> list[Event]:
        if self.call:
            self.call.flush()
        events, self._events = self._events, []
        if logprobs and events:
            events[0] = msgspec.structs.replace(events[0], logprobs=logprobs)
        elif logprobs:
            events.append(Delta(logprobs=logprobs))
        return events

    def _tell(self, event: Event) -> None:
        if isinstance(event, ToolCallStart):
            self._end_thinking()
        self._events.append(event)

    def _think_aloud(self, thinking: str) -> None:
        if thinking:
            self._events.append(Delta(thinking=thinking))

    def _think(self, text: str) -> str:
        """Tell the thinking in `text`; what of it belongs to the answer."""
        if self._thinking is None or self._thinking.has_answered:
            return text
        thinking, answer = self._thinking.feed(text)
        self._think_aloud(thinking)
        return answer

    def _end_thinking(self) -> None:
        if self._thinking and not self._thinking.has_answered:
            thinking, text = self._thinking.end()
            self._think_aloud(thinking)
            self._answer(text)

    def _answer(self, text: str) -> None:
        """Tell text of the answer that is in no call."""
        if self._format is None:
            if text:
                self._events.append(Delta(text))
            return
        if self._is_behind_call:
            text = text.lstrip()
        body = text.rstrip()
        if body:
            self._events.append(Delta("".join(self._space) + body))
            self._space, self._is_behind_call, self._may_be_bare = [], False, False
        if len(body) < len(text):
            self._space.append(text[len(body) :])

    def _read(self, format: CallFormat) -> Reading:
        """Text and calls by turns; yields whenever a piece is used up."""
        openings = TagFinder((*format.all_openings, *format.hidden))
        yield
        while True:
            opening = yield from self._find(format, openings)
            if opening is None:
                return
            try:
                yield from self._calls(format, opening)
            except Unreadable as error:
                self._give_back(error.reason)
            except Ended:
                if self.call:
                    self._source.read_all()
                    self._give_back(CUT, is_ended=True)
                return

    def _find(self, format: CallFormat, openings: TagFinder) -> Generator[None, None, str | None]:
        """Tell text until a call opens: the source is marked before the opening, stands behind it. None: the text has ended."""
        source = self._source
        while True:
            if not format.openings and self._may_be_bare and self.has_answered and (yield from self._is_bare()):
                return ""
            stop, opening = openings.find(source.text, source.position)
            if source.has_ended and not opening:
                stop = len(source.text)
            text = source.text[source.position : stop]
            if self.has_answered:
                self._answer(text)
            elif text and (answer := self._think(text)):
                source.text, source.position = answer + source.text[stop:], 0
                continue
            source.position = stop
            if opening in format.hidden and opening:
                source.position += len(opening)
                if self._thinking and not self.has_answered:
                    self._think_aloud(self._thinking.end_thinking())
            elif opening:
                source.mark(stop)
                source.position += len(opening)
                return opening
            elif source.has_ended:
                return None
            else:
                yield

    def _is_bare(self) -> Generator[None, None, bool]:
        """Whether the answer, or what follows a call, begins as a call without an opening does."""
        source = self._source
        self._answer(source.skip_space())
        while source.position == len(source.text) and not source.has_ended:
            yield
            self._answer(source.skip_space())
        self._may_be_bare = source.text[source.position : source.position + 1] in ("{", "[")
        if self._may_be_bare:
            source.mark(source.position)
        return self._may_be_bare

    def _calls(self, format: CallFormat, opening: str) -> Reading:
        """Read the calls behind one opening."""
        source = self._source
        self.call = self._new_call(format)
        if format.lead and opening != format.lead:
            yield from self._lead(format.lead)
        is_list = format.is_list
        if format.kind in (Kind.OBJECT, Kind.PYTHONIC) and (yield from source.peek()) == "[":
            source.position += 1
            is_list = True
        while True:
            yield from self._body(format, self.call)
            self._end_call()
            if not (yield from self._has_next(format, is_list)):
                return
            source.mark(source.position)
            self.call = self._new_call(format)

    def _new_call(self, format: CallFormat) -> Call:
        return Call(self._next_index, self._tools, self._ids, self._tell, waits_for_id=format.is_id_last)

    def _lead(self, lead: str) -> Reading:
        found = yield from self._source.starts_with((lead, "{"))
        if not found:
            raise Unreadable("a tool call could not be read")
        if found == lead:
            self._source.position += len(lead)

    def _body(self, format: CallFormat, call: Call) -> Reading:
        """One call; a whole object is read wherever one stands, since models of every kind write it now and then."""
        is_object = (yield from self._source.peek()) == "{"
        yield from (read_object if is_object else _READERS[format.kind])(self._source, format, call)
        if not format.openings and not call.has_arguments:
            raise Unreadable  # an object like any other
        call.finish()

    def _end_call(self) -> None:
        self._source.taken()
        self.call = None
        self.num_calls += 1
        self._next_index += 1
        self._space, self._is_behind_call, self._may_be_bare = [], True, True

    def _has_next(self, format: CallFormat, is_list: bool) -> Generator[None, None, bool]:
        """Read what closes a call, or parts calls of a list; whether another call follows without an opening."""
        source = self._source
        ends = (*format.closings, "]", ",") if is_list else format.closings
        while found := (yield from source.starts_with(ends)):
            source.position += len(found)
            is_list = is_list and found not in ("]", *format.closings)
        if not is_list:
            return False
        char = source.text[source.position : source.position + 1]
        return char == "{" if format.kind is Kind.OBJECT else char.isidentifier()

    def _give_back(self, reason: str, *, is_ended: bool = False) -> None:
        """What was read since the opening is text: of the thinking, where it stands in it and has not ended it."""
        call, self.call = self.call, None
        if call and call.has_started:
            self._next_index += 1
        text = self._source.taken()
        if self.has_answered or is_ended:
            self._end_thinking()
            is_likely = call and (call.tool or (call.stranger and reason != CUT))
            if (self._format and self._format.openings) or is_likely:
                self._warn(reason)
            self._answer(text)
        else:
            self._answer(self._think(text))

    def _warn(self, reason: str) -> None:
        warning = f"{reason}; {_PART}" if reason else ""
        if warning and warning not in self.warnings and len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(warning)
