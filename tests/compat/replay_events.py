"""Streams of server-sent events, compared as wholes: it does not matter where a server cuts them, but what adds up.

`folded` makes one comparable record of a stream; `unlawful` tells what is lost in it: numbers with gaps, roles twice.
"""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

JOINED_TEXTS = {
    *(
        "content",
        "reasoning",
        "reasoning_content",
        "text",
        "arguments",
        "delta",
        "partial_json",
        "thinking",
        "signature",
        "input",
    ),
}
_WRITTEN_AS_TEXT = ("arguments", "partial_json", "delta")

Event = dict[str, Any]


def events_of(text: str) -> list[Event]:
    """The events of a stream: `data` as JSON or text, `event` where it has a name. Comments are left out."""
    assert text.endswith("\n\n"), f"the stream ends in the middle of an event: {text[-80:]!r}"
    found: list[Event] = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        data = "\n".join(value for name, _, value in fields if name == "data")
        names = [value for name, _, value in fields if name == "event"]
        if fields:
            found.append({**({"event": names[0]} if names else {}), "data": _parsed(data)})
    return found


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def folded(events: list[Event]) -> Event:
    """The order of the kinds, keep-alives left out, and each kind's events in one."""
    order: list[str] = []
    kinds: dict[str, Any] = {}
    for event in events:
        data = event["data"]
        kind = _kind(event)
        if kind == "ping" or (kind == "response.in_progress" and kind in order):
            continue
        if isinstance(data, dict):
            name = _name(kind, data)
            kinds[name] = _fold(kinds.get(name), data)
        if not order or order[-1] != kind:
            order.append(kind)
    return {"order": order, "kinds": kinds}


def _kind(event: Event) -> str:
    data = event["data"]
    if not isinstance(data, dict):
        return str(event.get("event", data))
    return str(event.get("event") or data.get("object") or data.get("type") or "error")


def _name(kind: str, data: Event) -> str:
    at = "/".join(str(data[key]) for key in ("output_index", "content_index", "index") if key in data)
    delta = data["delta"].get("type", "") if isinstance(data.get("delta"), dict) else ""
    return " ".join(filter(None, [kind, at, delta]))


def _fold(a: Any, b: Any, key: str = "") -> Any:
    """Two records of one kind as one: texts joined, lists by `index` or end to end, else the last value that there is."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: _fold(a.get(name), b.get(name), name) for name in a | b}
    if isinstance(a, list) and isinstance(b, list):
        if not all(isinstance(each, dict) and "index" in each for each in a + b):
            return a + b
        by_index: dict[int, Any] = {}
        for each in a + b:
            by_index[each["index"]] = _fold(by_index.get(each["index"]), each)
        return list(by_index.values())
    if isinstance(a, str) and isinstance(b, str) and key in JOINED_TEXTS:
        return a + b
    return a if b is None else b


def comparable(value: Any, mask: list[str]) -> Any:
    """Without masked fields, at any depth; JSON inside texts as what it says, vectors in base64 as numbers."""
    if isinstance(value, list):
        return [comparable(each, mask) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _comparable_field(key, each, mask) for key, each in value.items() if key not in mask}


def _comparable_field(key: str, value: Any, mask: list[str]) -> Any:
    if key in _WRITTEN_AS_TEXT and isinstance(value, str):
        return _parsed(value)
    if key == "embedding" and isinstance(value, str):
        data = base64.b64decode(value)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return comparable(value, mask)


def unlawful(events: list[Event]) -> Iterator[str]:
    """What breaks the rules of an event stream."""
    data = [event["data"] for event in events if isinstance(event["data"], dict)]
    for event in events:
        if "event" in event and isinstance(event["data"], dict) and event["data"].get("type") != event["event"]:
            yield f"event {event['event']} with type {event['data'].get('type')}"
    numbers = [each["sequence_number"] for each in data if "sequence_number" in each]
    if numbers != list(range(len(numbers))):
        yield f"sequence_number: {numbers}"
    yield from _unlawful_chunks([each for each in data if isinstance(each.get("choices"), list)])
    yield from _unlawful_items(data)
    counts = [(each.get("message") or each).get("usage", {}).get("input_tokens") for each in data if _has_usage(each)]
    if len({count for count in counts if count is not None}) > 1:
        yield f"input_tokens: {counts}"


def _has_usage(data: Event) -> bool:
    return data.get("type") in ("message_start", "message_delta")


def _unlawful_chunks(chunks: list[Event]) -> Iterator[str]:
    yield from (
        f"chunks with different {key}" for key in ("id", "created", "model") if len({each.get(key) for each in chunks}) > 1
    )
    if any(not each["choices"] and each.get("usage") is None for each in chunks):
        yield "a chunk without choices and without usage"
    if any(not each["choices"] for each in chunks[:-1]):
        yield "a chunk behind the usage"
    deltas: dict[int, list[Event]] = {}
    finished = set()
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        if choice["index"] in finished:
            yield "a chunk behind the finish_reason"
        if choice.get("finish_reason"):
            finished.add(choice["index"])
        if isinstance(choice.get("delta"), dict):
            deltas.setdefault(choice["index"], []).append(choice["delta"])
    if any(bool(each.get("role")) != (number == 0) for own in deltas.values() for number, each in enumerate(own)):
        yield "role belongs into the first delta and no other"
    if any(each.get("content") and each.get("reasoning") for own in deltas.values() for each in own):
        yield "thought and answer in one delta"


def _unlawful_items(data: list[Event]) -> Iterator[str]:
    items: dict[int, str] = {}
    for each in data:
        ident = each.get("item_id", each.get("item", {}).get("id") if isinstance(each.get("item"), dict) else None)
        if ident is not None and items.setdefault(each["output_index"], ident) != ident:
            yield f"{each['type']}: not the id of its item"
    ends = [each["response"] for each in data if each.get("type") in ("response.completed", "response.incomplete")]
    if ends and [item["id"] for item in ends[-1]["output"]] != list(items.values()):
        yield "the last response's output has not the items' ids"
