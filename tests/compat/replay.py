"""Compare our answers with exchanges recorded from the peer (tests/golden/exchanges*.jsonl).

Levels of a record's `compare`: `exact`, everything equal but what changes from run to run; `shape`, the same fields with
the same types; `ours`, the peer is wrong and `ours` says what must and must not be there; `read`, not compared. A step that is
`setup` makes what others need. "{{ID.path}}" is filled from an earlier answer.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.compat.replay_events import comparable, events_of, folded, unlawful

GOLDEN = Path(__file__).parent.parent / "golden"
OUR_FIELDS = {"warnings", "prompt_cached_count", "truncated", "format_valid", "serow"}
CHANGING = {
    *("created_at", "modified_at", "expires_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
    *("size", "size_vram", "digest", "created", "id", "version", "context_length", "modelfile", "system_fingerprint"),
    *("call_id", "item_id", "request_id", "completed_at", "sequence_number"),
}
_REFERENCE = re.compile(r"\{\{([\w-]+)\.([\w.-]+)\}\}")
VECTORS = ("embedding", "embeddings")
LEAST_COSINE = 0.999
LOGPROB_TOLERANCE = 0.1  # between two CPUs' kernels

Case = dict[str, Any]


def cases(name: str = "exchanges.jsonl") -> list[Case]:
    """The recorded exchanges that are there to be sent, in order: some make what later ones use."""
    records = [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]
    return [record for record in records if record.get("compare") != "read"]


def ask(client: httpx.Client, case: Case, answers: dict[str, Any] | None = None) -> httpx.Response:
    """Send a case's request as it was sent to the peer; `answers` are the earlier ones, by the case's id."""
    case = json.loads(_REFERENCE.sub(lambda match: _looked_up(answers or {}, match), json.dumps(case)))
    headers = dict(case.get("headers", {}))
    content = case["raw"].encode() if "raw" in case else json.dumps(case["body"]).encode() if "body" in case else None
    if "body" in case:
        headers.setdefault("Content-Type", "application/json")
    request = client.build_request(case["method"], case["path"], content=content, headers=headers)
    del request.headers["accept"]  # which the recorder did not send
    return client.send(request)


def _looked_up(answers: dict[str, Any], match: re.Match[str]) -> str:
    value = answers.get(match[1], {})
    for key in match[2].split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return match[0] if value is None else str(value)


def differences(case: Case, answer: httpx.Response) -> list[str]:
    """What is not as recorded, a line each; with `more` further fields of ours are fine."""
    found = _differences(case, answer)
    return [each for each in found if not (case.get("more") and each.endswith("not in the peer's answer"))]


def _differences(case: Case, answer: httpx.Response) -> list[str]:
    if case.get("setup") or case.get("compare") == "setup":
        return [] if answer.is_success else [f"status {answer.status_code}: {answer.text[:160]}"]
    if case["compare"] == "ours":
        return list(_against_ours(case["ours"], answer))
    recorded, exact = case["response"], case["compare"] == "exact"
    if answer.status_code != recorded["status"]:
        return [f"status {answer.status_code}, recorded {recorded['status']}: {answer.text[:160]}"]
    found = list(_content_type(recorded, answer))
    if case["method"] == "HEAD":
        return found
    if "events" in recorded:
        return found + list(_compare_events(case, answer, exact))
    for key in ("lines", "json", "text"):
        if recorded.get(key):
            return found + list(_compare(_prepared(recorded[key], case), _prepared(_body(answer, key), case), exact))
    return found


def _compare_events(case: Case, answer: httpx.Response, exact: bool) -> Iterator[str]:
    mask = case.get("mask", [])
    got = events_of(answer.text)
    want, ours = (comparable(folded(each), mask) for each in (case["response"]["events"], got))
    if want["order"] != ours["order"]:
        yield f"order {ours['order']}, recorded {want['order']}"
    yield from _compare(want["kinds"], ours["kinds"], exact)
    yield from unlawful(got)


def _body(answer: httpx.Response, key: str) -> Any:
    if key == "lines":
        return [json.loads(line) for line in answer.text.split("\n") if line]
    return answer.json() if key == "json" else answer.text


def _prepared(body: Any, case: Case) -> Any:
    """Without the fields that the case masks; a stream as one record: joined texts and the last line."""
    body = comparable(body, case.get("mask", []))
    if isinstance(body, list) and any("message" in line for line in body):
        return _joined_messages(body)
    if not isinstance(body, list) or not any("response" in line for line in body):
        return body[-1] if isinstance(body, list) else body
    joined = {key: "".join(line.get(key, "") for line in body) for key in ("response", "thinking")}
    return {**joined, "logprobs": [entry for line in body for entry in line.get("logprobs", [])], "last": body[-1]}


def _joined_messages(lines: list[dict[str, Any]]) -> dict[str, Any]:
    messages = [line["message"] for line in lines if "message" in line]
    return {
        **{key: "".join(message.get(key, "") for message in messages) for key in ("content", "thinking")},
        "tool_calls": [call for message in messages for call in message.get("tool_calls", [])],
        "logprobs": [entry for line in lines for entry in line.get("logprobs", [])],
        "roles": sorted({message["role"] for message in messages}),
        "last": {**lines[-1], "message": {}},
        "calls with the end": bool(lines[-1].get("message", {}).get("tool_calls")),
    }


def _content_type(recorded: dict[str, Any], answer: httpx.Response) -> Iterator[str]:
    ours, theirs = (
        headers.get("content-type", "").partition(";")[0] for headers in (answer.headers, recorded.get("headers", {}))
    )
    if theirs and ours != theirs:
        yield f"content type {ours!r}, recorded {theirs!r}"


def _against_ours(ours: dict[str, Any], answer: httpx.Response) -> Iterator[str]:
    status = ours.get("status", 200)
    if answer.status_code not in (status if isinstance(status, list) else [status]):
        yield f"status {answer.status_code}, expected {status}: {answer.text[:160]}"
    text = "\n".join(json.dumps(part, ensure_ascii=False) for part in _parts(answer))
    yield from (f"lacks {part!r}: {text[:300]}" for part in ours.get("has", []) if part not in text)
    yield from (f"holds {part!r}" for part in ours.get("lacks", []) if part in text)
    for name, wanted in ours.get("headers", {}).items():
        value = answer.headers.get(name)
        yield from (f"header {name} {value!r}" for part in wanted if value is None or part.lower() not in value.lower())
    if "event-stream" in answer.headers.get("content-type", ""):
        yield from unlawful(events_of(answer.text))


def _parts(answer: httpx.Response) -> list[Any]:
    if "ndjson" in answer.headers.get("content-type", ""):
        lines = _body(answer, "lines")
        return [lines, _prepared(lines, {})]
    if "event-stream" in answer.headers.get("content-type", ""):
        events = events_of(answer.text)
        return [events, folded(events)]
    return [answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else answer.text]


def _compare(want: Any, got: Any, exact: bool, at: str = "$") -> Iterator[str]:
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (want, got))
    if not numbers and type(want) is not type(got):
        yield f"{at}: {type(want).__name__}, got {type(got).__name__} {str(got)[:60]}"
    elif isinstance(want, dict):
        yield from (f"{at}.{key}: missing" for key in want.keys() - got.keys())
        yield from (f"{at}.{key}: not in the peer's answer" for key in got.keys() - want.keys() - OUR_FIELDS)
        for key in VECTORS if exact else ():
            if key in want and key in got:
                yield from _compare_vectors(want.pop(key), got.pop(key), f"{at}.{key}")
        for key in want.keys() & got.keys():
            yield from _compare(want[key], got[key], exact and key not in CHANGING, f"{at}.{key}")
    elif isinstance(want, list) and exact and at.endswith(".top_logprobs"):
        yield from _compare_alternatives(want, got, at)
    elif isinstance(want, list):
        yield from _compare_lists(want, got, exact, at)
    elif exact and not _equal(want, got, at):
        yield f"{at}: {want!r:.120}, got {got!r:.120}"


def _compare_lists(want: list[Any], got: list[Any], exact: bool, at: str) -> Iterator[str]:
    if exact and len(want) != len(got):
        yield f"{at}: {len(want)} items, got {len(got)}"
    pairs = list(zip(want, got, strict=False))
    for number, (a, b) in enumerate(pairs if exact else pairs[:1]):
        yield from _compare(a, b, exact, f"{at}[{number}]")


def _compare_vectors(want: list[Any], got: list[Any], at: str) -> Iterator[str]:
    """One vector or several, by their angle and length."""
    pairs = [(want, got)] if want and isinstance(want[0], float) else list(zip(want, got, strict=False))
    if len(want) != len(got) or any(len(a) != len(b) for a, b in pairs):
        yield f"{at}: not as many, or not as long"
        return
    for number, (a, b) in enumerate(pairs):
        lengths = [math.sqrt(math.fsum(x * x for x in each)) for each in (a, b)]
        cosine = math.fsum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])
        if cosine < LEAST_COSINE or abs(lengths[0] - lengths[1]) > 0.01:
            yield f"{at}[{number}]: cosine {cosine:.4f}, lengths {lengths}"


def _compare_alternatives(want: list[Any], got: list[Any], at: str) -> Iterator[str]:
    """Log-probabilities by rank, and the tokens, but for near ties at the last rank: another CPU decides those otherwise."""
    ranks, ours = ([each["logprob"] for each in side] for side in (want, got))
    if len(ranks) != len(ours) or any(abs(a - b) > LOGPROB_TOLERANCE for a, b in zip(ranks, ours, strict=True)):
        yield f"{at}: {ranks}, got {ours}"
        return
    tokens = {each["token"] for each in got}
    certain = [each["token"] for each in want if each["logprob"] > min(ranks) + LOGPROB_TOLERANCE]
    yield from (f"{at}: lacks {token!r}" for token in certain if token not in tokens)


def _equal(want: Any, got: Any, at: str) -> bool:
    return abs(want - got) <= LOGPROB_TOLERANCE if at.endswith("logprob") else bool(want == got)
