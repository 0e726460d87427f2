"""Events of llama.cpp: however they are split, each token becomes one chunk."""

import msgspec
import pytest

from serow.engines.llamacpp import events as llama_events
from serow.engines.llamacpp.events import ChunkBuilder, Event, EventReader
from serow.errors import EngineError

STREAM = (
    b'data: {"content":"\\u00e9 ","tokens":[7],"stop":false,"tokens_predicted":1,"new_field":{"a":[1]}}\n\n'
    b":\n\n"
    b'data: {"content":"","tokens":[0],"stop":false,"tokens_predicted":0,"prompt_progress":{"total":9,"processed":4}}\n\n'
    b'data: {"content":"\xe6\x97\xa5","tokens":[8],"stop":false,"tokens_predicted":3}\n\n'
    b'data: {"content":"","tokens":[],"stop":true,"tokens_predicted":4,"stop_type":"eos","timings":{"prompt_ms":1.5}}\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_events_are_the_same_wherever_the_pieces_split(size: int) -> None:
    reader = EventReader()
    events = [event for at in range(0, len(STREAM), size) for event in reader.feed(STREAM[at : at + size])]
    assert [(event.content, event.tokens_predicted, event.stop) for event in events] == [
        ("é ", 1, False),
        ("日", 3, False),
        ("", 4, True),
    ]


def test_an_event_comes_out_as_soon_as_it_is_complete() -> None:
    reader = EventReader()
    assert [event.content for event in reader.feed(b'data: {"content":"a"}\n\ndata: {"cont')] == ["a"]
    assert [event.content for event in reader.feed(b'ent":"b"}\n\n')] == ["b"]


def test_an_event_without_end_is_not_gathered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_events, "_LONGEST_EVENT", 100)
    reader = EventReader()
    reader.feed(b"data: " + b"x" * 90)
    with pytest.raises(EngineError, match=r"^the engine sent an event that is too long$"):
        reader.feed(b"x" * 90)


def test_an_event_that_is_no_event_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        EventReader().feed(b'data: {"content":5}\n\n')


@pytest.mark.parametrize(
    ("stop_type", "truncated", "evaluated", "done_reason", "is_shifted"),
    [
        ("eos", False, 5, "stop", False),
        ("word", False, 5, "stop", False),
        ("limit", False, 5, "length", False),
        ("limit", True, 5, "length", True),
        ("limit", True, 2, "length", False),  # the context was full, and this engine can't shift
    ],
)
def test_usage_says_why_it_ended(stop_type: str, truncated: bool, evaluated: int, done_reason: str, is_shifted: bool) -> None:
    last = Event(stop=True, stop_type=stop_type, truncated=truncated, tokens_evaluated=evaluated, tokens_predicted=6)
    usage = ChunkBuilder(top_logprobs=0, num_ctx=10).finish(last, "").usage
    assert usage is not None
    assert (usage.done_reason, usage.is_shifted) == (done_reason, is_shifted)


def test_an_end_that_comes_with_the_last_token_is_an_end() -> None:
    events = (Event(stop=True, stopped_limit=True, stopped_eos=is_end) for is_end in (False, True))
    assert [event.is_limit for event in events] == [True, False]
