"""The token ids of a text; of one that is far too long for a context only those of its ends, so that work is bounded."""

from collections.abc import Awaitable, Callable
from functools import partial

from serow.engines.base import TextRunner

MOST_CHARACTERS = 24  # of a token, about: a text with more of them for each token can't fit
_SPLIT = 16  # tokens at the end of a piece that may be others than in the whole

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


async def beginning_of(text: str, num_ctx: int, tokenize: _Tokenize) -> tuple[list[int], bool]:
    """The ids of a text, and whether these are all: one that is far too long is not tokenized beyond what can't fit."""
    length = num_ctx * MOST_CHARACTERS
    while length < len(text):
        ids = await tokenize(text[:length])
        if len(ids) > num_ctx + _SPLIT:
            return ids, False
        length *= 2
    return await tokenize(text), True


async def ends_of(context: list[int], text: str, num_ctx: int, runner: TextRunner) -> tuple[list[int], int]:
    """The ids of a prompt; of one that is far too long only those of its two ends, and about how many are between them."""
    length = num_ctx * MOST_CHARACTERS
    while 2 * length < len(text):
        head = await tokens_of(context, text[:length], runner)
        tail = await runner.tokenize(text[-length:], add_special=False)
        if min(len(head), len(tail)) > num_ctx + _SPLIT:
            return head + tail, len(tail) * (len(text) - 2 * length) // length
        length *= 2
    return await tokens_of(context, text, runner), 0


def prompt_beginning(text: str, num_ctx: int, runner: TextRunner) -> Awaitable[tuple[list[int], bool]]:
    """The same of a whole prompt."""
    return beginning_of(text, num_ctx, partial(tokens_of, [], runner=runner))
