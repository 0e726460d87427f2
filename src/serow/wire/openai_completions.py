"""OpenAI's completions: raw prompts, each a choice, with echo and log-probabilities (OAI-15, OAI-16)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import UNSET

from serow.engines.base import Logprob
from serow.errors import SerowError
from serow.inference.ask import Ask, Insert, Raw
from serow.inference.events import Chosen, Delta, Done, Echo
from serow.wire import server_sent
from serow.wire.fields import Fields
from serow.wire.fold import Fold
from serow.wire.openai_answer import FINGERPRINT, error_body, finish_reason, new_id, usage_body, warnings_body
from serow.wire.openai_chat import CHANGES_NOTHING, MOST_CHOICES, choices_of, include_usage_of, may_truncate
from serow.wire.sampling import FALLBACKS, keep_alive_of, logprobs_of, options_of

MOST_PROMPTS = 2048


@dataclass(frozen=True)
class CompletionRequest:
    """A validated body of POST /v1/completions: one Ask a choice, those of a prompt next to each other."""

    asks: tuple[Ask, ...]
    num_choices: int  # of each prompt
    include_usage: bool = False
    echo: bool = False

    @property
    def ask(self) -> Ask:
        """The first choice's."""
        return self.asks[0]


def decode(body: bytes, *, truncates: bool = False) -> CompletionRequest:
    """Validate a body, which is cut as the setting says where it says nothing; raises RequestError that names the field."""
    fields = Fields.of_body(body)
    echo = fields.flag("echo")
    ask = Ask(
        model=fields.text("model"),
        prompt=Raw(""),
        stream=fields.flag("stream"),
        options=options_of(fields, "max_tokens", "max_completion_tokens", may_be_empty=echo),
        fallbacks=FALLBACKS,
        keep_alive=keep_alive_of(fields),
        think=False,
        truncate=may_truncate(fields, default=truncates),
        shift=False,
        logprobs="logprobs" in fields,
        top_logprobs=logprobs_of(fields, "logprobs"),
    )
    number = fields.integer("n", 1, MOST_CHOICES) or 1
    number = max(number, fields.integer("best_of", 1, MOST_CHOICES) or 1)
    prompts = _prompts(fields, echo=echo)
    include_usage = include_usage_of(fields)
    fields.ignore(CHANGES_NOTHING)
    fields.warn_of_unread()
    warned = replace(ask, warnings=tuple(fields.warnings))
    asks = [each for prompt in prompts for each in choices_of(replace(warned, prompt=prompt), number)]
    return CompletionRequest(tuple(asks), number, include_usage, echo)


def _prompts(fields: Fields, *, echo: bool) -> list[Raw | Insert]:
    given = fields.value("prompt")
    if given is None:
        raise fields.missing("prompt")
    prompts = _texts_or_ids(fields, "prompt", given)
    if len(prompts) > MOST_PROMPTS:
        raise fields.fault("prompt", f"prompt holds {len(prompts)} prompts, more than the {MOST_PROMPTS} allowed")
    suffix = fields.text("suffix")
    if not suffix:
        return [Raw(each, echo=echo) for each in prompts]
    texts = [each for each in prompts if isinstance(each, str)]
    if len(texts) < len(prompts) or echo:
        raise fields.fault("suffix", "suffix goes with prompts that are text, and without echo")
    return [Insert(each, suffix) for each in texts]


def _texts_or_ids(fields: Fields, name: str, given: Any) -> list[str | list[int]]:
    """A text, token ids, or a list of either; raises RequestError."""
    if isinstance(given, str):
        return [given]
    items = fields.items(name)
    if not items:
        raise fields.fault(name, f"{name} is an empty list")
    if all(_is_id(item) for item in items):
        return [items]
    for number, item in enumerate(items):
        if not (isinstance(item, str) or (isinstance(item, list) and item and all(_is_id(each) for each in item))):
            raise fields.mistyped(f"{name}[{number}]", "a string or an array of token ids", item)
    return items


def texts_or_ids(fields: Fields, name: str) -> list[str | list[int]]:
    """The texts of a field, or lists of token ids in their place; none where the field is absent or empty."""
    given = fields.value(name)
    return [] if given is None or given == [] else _texts_or_ids(fields, name, given)


def _is_id(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0


def whole(request: CompletionRequest, folds: Sequence[Fold]) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    return {
        **_head(request),
        "choices": [_choice(request, number, fold) for number, fold in enumerate(folds)],
        "usage": usage_body(folds, request.num_choices),
        **warnings_body(request.ask, folds),
    }


def _head(request: CompletionRequest) -> dict[str, Any]:
    return {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.ask.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(request: CompletionRequest, number: int, fold: Fold) -> dict[str, Any]:
    table = Table(request.ask.top_logprobs)
    if fold.echo:
        table.add_echo(fold.echo)
    table.add(fold.logprobs)
    return {
        "text": (fold.echo.text if fold.echo else "") + fold.text,
        "index": number,
        "logprobs": table.rows if request.ask.logprobs else None,
        "finish_reason": finish_reason(fold.done, has_calls=False),
    }


class Table:
    """Log-probabilities as the completions of old have them: columns, and each token's offset in the text."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._offset = 0
        self.rows: dict[str, list[Any]] = _columns()

    def add_echo(self, echo: Echo) -> None:
        """The prompt's tokens; nothing predicts the first one."""
        for token, logprob in zip(echo.tokens, echo.logprobs, strict=True):
            if logprob is None:
                self._row(token, None, None)
            else:
                self.add([logprob])

    def add(self, logprobs: Sequence[Logprob]) -> None:
        """Tokens as they were sampled."""
        for each in logprobs:
            top = () if each.top_logprobs is UNSET else each.top_logprobs
            self._row(each.token, each.logprob, {other.token: other.logprob for other in top})

    def _row(self, token: str, logprob: float | None, top: dict[str, float] | None) -> None:
        self.rows["tokens"].append(token)
        self.rows["token_logprobs"].append(logprob)
        self.rows["top_logprobs"].append(top)
        self.rows["text_offset"].append(self._offset)
        self._offset += len(token)

    def take(self) -> dict[str, list[Any]]:
        """The rows so far, which are forgotten; offsets go on."""
        taken, self.rows = self.rows, _columns()
        return taken


def _columns() -> dict[str, list[Any]]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


class CompletionStream:
    """The chunks of an answer; those of several choices come as they are made, told apart by `index`."""

    content_type = server_sent.CONTENT_TYPE
    has_pings = True

    def __init__(self, request: CompletionRequest) -> None:
        self._request = request
        self._head = _head(request)
        self._folds = [Fold() for _ in request.asks]
        self._tables = [Table(request.ask.top_logprobs) for _ in request.asks]

    def feed(self, chosen: Chosen) -> bytes:
        """The chunk of an event."""
        choice, event = chosen
        match event:
            case Echo():
                self._tables[choice].add_echo(event)
                return self._piece(choice, event.text)
            case Delta():
                self._tables[choice].add(event.logprobs)
                return self._piece(choice, event.text)
            case Done():
                self._folds[choice].add(event)
                is_last = all(fold.done for fold in self._folds) and not self._request.include_usage
                warnings = warnings_body(self._request.ask, self._folds) if is_last else {}
                reason = finish_reason(event, has_calls=False)
                return self._chunk([{"text": "", "index": choice, "logprobs": None, "finish_reason": reason}], **warnings)
        return b""

    def _piece(self, choice: int, text: str) -> bytes:
        logprobs = self._tables[choice].take() if self._request.ask.logprobs else None
        return self._chunk([{"text": text, "index": choice, "logprobs": logprobs, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._request.include_usage else {}
        return server_sent.data({**self._head, "choices": choices, **usage, **more})

    def finish(self) -> bytes:
        """What it cost, where it was asked for, and the end."""
        if not self._request.include_usage:
            return server_sent.DONE
        usage = usage_body(self._folds, self._request.num_choices)
        return self._chunk([], usage=usage, **warnings_body(self._request.ask, self._folds)) + server_sent.DONE

    def fail(self, error: SerowError) -> bytes:
        """The error, as the SDKs raise it; nothing follows."""
        return server_sent.data(error_body(error))

    def ping(self) -> bytes:
        """A comment."""
        return server_sent.COMMENT
