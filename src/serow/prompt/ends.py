"""The token ids of a text; of one that is far too long for a context only those of its ends, so that work is bounded."""

from collections.abc import Awaitable, Callable
from functools import partial

from serow.engines.base import TextRunner

MOST_CHARACTERS = 24  # of a token, about: a text with more of them for each token can't fit
_PIECE = 128 << 10  # characters that are tokenized at once before it is known that the whole may fit
_LEAST = 4 << 10  # of these, so that what is split is a small part
_SPLIT = 2  # tokens more, at most, where a text is cut
_COUNTED = 1 << 15  # tokens, whatever a context holds
_SURE = 16  # tokens beyond the context that leave no doubt

_Tokenize = Callable[[str], Awaitable[list[int]]]


async def tokens_of(context: list[int], text: str, runner: TextRunner) -> list[int]:
    """The ids of the whole prompt; a beginning-of-text token that the text has already is not added once more (GEN-09)."""
    if context:
        return context + await runner.tokenize(text, add_special=False)
    tokens = await runner.tokenize(text, add_special=True)
    if tokens[:1] == tokens[1:2]:
        plain = await runner.tokenize(text, add_special=False)
        return plain if tokens[1:] == plain else tokens
    return tokens


async def beginning_of(text: str, num_ctx: int, runner: TextRunner, tokenize: _Tokenize) -> tuple[list[int], bool]:
    """The ids of a text, and whether these are all: one that is far too long is not tokenized beyond what can't fit."""
    length, _ = await _reach(text, num_ctx, runner)
    ids = await tokenize(text[:length])
    if length == len(text):
        return ids, True
    return (ids, False) if len(ids) > num_ctx else (await tokenize(text), True)


def prompt_beginning(text: str, num_ctx: int, runner: TextRunner) -> Awaitable[tuple[list[int], bool]]:
    """The same of a whole prompt."""
    return beginning_of(text, num_ctx, runner, partial(tokens_of, [], runner=runner))


async def ends_of(context: list[int], text: str, num_ctx: int, runner: TextRunner) -> tuple[list[int], int]:
    """The ids of a prompt; of one that is far too long only those of its two ends, and about how many are between them."""
    before, _ = await _reach(text, num_ctx, runner)
    behind, _ = await _reach(text, num_ctx, runner, at_end=True) if before < len(text) else (0, 0)
    if before < len(text) - behind:
        head = await tokens_of(context, text[:before], runner)
        tail = await runner.tokenize(text[-behind:], add_special=False)
        if min(len(head), len(tail)) > num_ctx:
            return head + tail, (len(head) + len(tail)) * (len(text) - before - behind) // (before + behind)
    return await tokens_of(context, text, runner), 0


async def number_of(text: str, num_ctx: int, runner: TextRunner) -> int:
    """How many tokens a prompt has; of one that is far too long about how many, by those of its beginning."""
    reached, num_tokens = await _reach(text, max(num_ctx, _COUNTED), runner)
    if reached < len(text):
        return num_tokens * len(text) // reached
    return len(await tokens_of([], text, runner))


async def _reach(text: str, num_ctx: int, runner: TextRunner, *, at_end: bool = False) -> tuple[int, int]:
    """How many characters at one end of a text are more than a context holds, and tokens; all of them where it may fit."""
    length = max(_LEAST, min(_PIECE, num_ctx * MOST_CHARACTERS))
    num_tokens = reached = 0
    while length < len(text) and reached < len(text):
        place = len(text) - reached - length if at_end else reached
        piece = text[max(0, place) : place + length]
        num_tokens += max(1, len(await runner.tokenize(piece, add_special=False)) - _SPLIT)
        reached += len(piece)
        if num_tokens > num_ctx + _SURE:
            return reached, num_tokens
    return len(text), num_tokens
