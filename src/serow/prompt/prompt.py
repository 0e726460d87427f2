"""The whole prompt of an Ask: its text, its token ids, and what of them the engine gets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serow.errors import PromptTooLong
from serow.inference.ask import Ask, Single
from serow.options import Options
from serow.prompt.render import render
from serow.prompt.truncation import truncate
from serow.runner.base import TextRunner
from serow.runner.llama_spec import whole_blocks
from serow.store.model import Model

_PLACE = re.compile(r"\[img-([0-9]{1,4})\]")


@dataclass(frozen=True)
class Prompt:
    """The whole prompt's ids, and what of it the engine gets: ids cut to the context, or text when it holds pictures."""

    text: str
    tokens: list[int]
    engine: list[int] | str
    num_ctx: int  # tokens
    truncated: int = 0  # tokens
    images: Sequence[bytes] = ()  # in the order of their markers
    warnings: tuple[str, ...] = ()

    @property
    def num_sent(self) -> int:
        """Tokens that the engine gets; those of its pictures are not known."""
        return len(self.engine if isinstance(self.engine, list) else self.tokens)


async def make(
    model: Model, ask: Ask, options: Options, images: Sequence[bytes], think: bool | str | None, runner: TextRunner
) -> Prompt:
    """Render an Ask and make it fit. Raises RequestError, TemplateError; PromptTooLong where it may not be cut."""
    text = await render(model, ask.prompt, think, runner)
    tokens = await _tokens(_context(ask), text, runner)
    num_ctx = _num_ctx(options.num_ctx, runner.num_ctx)
    if images:
        before = (await _before(ask, runner)).replace(runner.media_marker, "")
        placed, ordered = _with_media(text, images, runner.media_marker)
        return Prompt(text, tokens, await _without_beginning(before + placed, runner), num_ctx, images=ordered)
    if len(tokens) >= num_ctx and not ask.truncate:
        raise PromptTooLong(len(tokens), num_ctx)
    kept, truncated = truncate(tokens, num_ctx, options.num_keep, options.num_predict)
    cut = f"the prompt was cut by {truncated} of {len(tokens)} tokens to fit a context of {num_ctx}"
    return Prompt(text, tokens, kept, num_ctx, truncated, warnings=(cut,) if truncated else ())


async def rendered(model: Model, ask: Ask, think: bool | str | None, runner: TextRunner) -> str:
    """The text of the whole prompt, before anything is cut."""
    return await _before(ask, runner) + await render(model, ask.prompt, think, runner)


def _context(ask: Ask) -> list[int]:
    """Token ids before the prompt."""
    return list(ask.prompt.context) if isinstance(ask.prompt, Single) else []


async def _before(ask: Ask, runner: TextRunner) -> str:
    context = _context(ask)
    return await runner.detokenize(context) if context else ""


async def _tokens(context: list[int], text: str, runner: TextRunner) -> list[int]:
    """The ids of the whole prompt; a beginning-of-text token that the text has already is not added once more (GEN-09)."""
    if context:
        return context + await runner.tokenize(text, add_special=False)
    tokens = await runner.tokenize(text, add_special=True)
    if tokens[:1] == tokens[1:2]:
        plain = await runner.tokenize(text, add_special=False)
        return plain if tokens[1:] == plain else tokens
    return tokens


async def _without_beginning(text: str, runner: TextRunner) -> str:
    """A prompt that the engine itself will tokenize, without the beginning-of-text token that it adds."""
    added, plain = await runner.tokenize("", add_special=True), await runner.tokenize("", add_special=False)
    beginning = await runner.detokenize(added[:1]) if added != plain else ""
    return text.removeprefix(beginning)


def _num_ctx(asked: int, loaded: int) -> int:
    """The context that holds for this request: what it asks for, rounded up as the engine does, within what is loaded."""
    return min(whole_blocks(asked), loaded) if asked else loaded


def _with_media(text: str, images: Sequence[bytes], marker: str) -> tuple[str, list[bytes]]:
    """The engine's marker where `[img-N]` stands first, and the pictures in that order; a marker of the user's is taken out."""
    waiting, placed = dict(enumerate(images)), []

    def place(match: re.Match[str]) -> str:
        image = waiting.pop(int(match[1]), None)
        if image is None:
            return match[0]
        placed.append(image)
        return marker

    return _PLACE.sub(place, text.replace(marker, "")), placed
