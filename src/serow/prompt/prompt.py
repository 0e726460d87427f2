"""The whole prompt of an Ask: its text, its token ids, and what of them the engine gets."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from serow.engines.base import TextRunner
from serow.engines.llamacpp.spec import whole_blocks
from serow.errors import PromptTooLong
from serow.inference.ask import Ask, Conversation, Raw, Single
from serow.options import Options
from serow.output.thinking import ThinkingTags
from serow.prompt.conversation import Fitted, Fitter, renderer_of
from serow.prompt.ends import ends_of
from serow.prompt.media import with_media
from serow.prompt.render import render
from serow.prompt.templates import Rendering
from serow.prompt.truncation import truncate
from serow.prompt.turns import unknown_roles
from serow.store.model import Model

_FEW = 500  # messages, parts and calls of a conversation that are sorted out within a millisecond


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
    begun: str | None = None  # thinking that stands open at its end
    continues: bool = False  # an answer of the client's goes on, behind its thinking

    @property
    def num_sent(self) -> int:
        """Tokens that the engine gets; those of its pictures are not known."""
        return len(self.engine if isinstance(self.engine, list) else self.tokens)


@dataclass(frozen=True)
class Wanted:
    """An Ask with what was found out about it: its options, its pictures as PNG, whether and how the model thinks."""

    model: Model
    ask: Ask
    options: Options
    images: Sequence[bytes] = ()
    think: bool | str | None = None
    tags: ThinkingTags | None = None
    rendering: Rendering = field(default_factory=Rendering)


async def make(wanted: Wanted, runner: TextRunner) -> Prompt:
    """Render an Ask and make it fit. Raises RequestError, TemplateError; PromptTooLong where it may not be cut."""
    num_ctx = _num_ctx(wanted.options.num_ctx, runner.num_ctx)
    if isinstance(wanted.ask.prompt, Conversation):
        return await _conversation(wanted, wanted.ask.prompt, num_ctx, runner)
    return await _single(wanted, num_ctx, runner)


async def rendered(wanted: Wanted, runner: TextRunner) -> tuple[str, int, tuple[str, ...]]:
    """The text of the whole prompt, a conversation after its truncation; how many pictures it holds, what is to be said."""
    if isinstance(wanted.ask.prompt, Conversation):
        fitted, warnings = await _fitted(wanted, wanted.ask.prompt, _num_ctx(wanted.options.num_ctx, runner.num_ctx), runner)
        return fitted.rendered.text, len(fitted.rendered.pictures), warnings
    text = await _before(wanted.ask, runner) + await render(
        wanted.model, wanted.ask.prompt, wanted.think, wanted.rendering, runner
    )
    return text, len(wanted.images), ()


async def num_tokens(wanted: Wanted, runner: TextRunner) -> int:
    """How many tokens the whole prompt has, those of its pictures with them; a conversation need not fit."""
    if isinstance(wanted.ask.prompt, Conversation):
        fitter, _ = await _fitter(wanted, wanted.ask.prompt, runner)
        return await fitter.count()
    return len((await make(wanted, runner)).tokens)


async def _single(wanted: Wanted, num_ctx: int, runner: TextRunner) -> Prompt:
    ask, options = wanted.ask, wanted.options
    text = await render(wanted.model, ask.prompt, wanted.think, wanted.rendering, runner)
    ids = ask.prompt.prompt if isinstance(ask.prompt, Raw) and not isinstance(ask.prompt.prompt, str) else None
    tokens, num_between = (list(ids), 0) if ids is not None else await ends_of(_context(ask), text, num_ctx, runner)
    tokens = tokens or list(wanted.model.beginning)
    begun = wanted.tags.begun(text, raw=isinstance(ask.prompt, Raw)) if wanted.tags else None
    if wanted.images:
        if len(tokens) >= num_ctx:  # an engine would find that out, too, but long after
            raise PromptTooLong(len(tokens), num_ctx, is_least=True)
        before = (await _before(ask, runner)).replace(runner.media_marker, "")
        placed, images = with_media(text, wanted.images, runner.media_marker)
        engine = await _without_beginning(before + placed, runner)
        return Prompt(text, tokens, engine, num_ctx, images=images, begun=begun)
    if len(tokens) >= num_ctx and not ask.truncate:
        raise PromptTooLong(len(tokens), num_ctx, is_least=num_between > 0)
    kept, truncated = truncate(tokens, num_ctx, options.num_keep, options.num_predict)
    truncated += num_between
    about = "about " if num_between else ""
    cut = f"the prompt was cut by {about}{truncated} of {len(tokens) + num_between} tokens to fit a context of {num_ctx}"
    return Prompt(text, tokens, kept, num_ctx, truncated, warnings=(cut,) if truncated else (), begun=begun)


async def _conversation(wanted: Wanted, conversation: Conversation, num_ctx: int, runner: TextRunner) -> Prompt:
    fitted, warnings = await _fitted(wanted, conversation, num_ctx, runner)
    found = fitted.rendered
    engine: list[int] | str = found.tokens
    images: list[bytes] = []
    if found.pictures:
        kept = [wanted.images[number] for number in found.pictures]
        placed, images = with_media(found.text, kept, runner.media_marker)
        engine = await _without_beginning(placed, runner)
    begun = found.begun
    if begun is None and wanted.tags and not found.continues:
        begun = wanted.tags.begun(found.text, raw=False)
    return Prompt(
        found.text, found.tokens, engine, num_ctx, fitted.truncated, images, warnings, begun, continues=found.continues
    )


async def _fitter(wanted: Wanted, conversation: Conversation, runner: TextRunner) -> tuple[Fitter, list[str]]:
    template, warnings = renderer_of(wanted.model, conversation, wanted.ask.think)
    given = wanted.model, conversation, wanted.images, wanted.think, wanted.tags, template, wanted.rendering, runner
    is_long = sum(len(message.content) + len(message.tool_calls) + 1 for message in conversation.messages) > _FEW
    fitter = await asyncio.to_thread(Fitter, *given) if is_long else Fitter(*given)
    return fitter, warnings


async def _fitted(
    wanted: Wanted, conversation: Conversation, num_ctx: int, runner: TextRunner
) -> tuple[Fitted, tuple[str, ...]]:
    fitter, warnings = await _fitter(wanted, conversation, runner)
    fitted = await fitter.fit(num_ctx, truncate=wanted.ask.truncate, must_fit=not wanted.ask.render_only)
    warnings += unknown_roles(conversation)
    if fitted.num_dropped:
        messages = "message was" if fitted.num_dropped == 1 else "messages were"
        warnings.append(f"the oldest {fitted.num_dropped} {messages} left out to fit a context of {num_ctx} tokens")
    return fitted, tuple(warnings)


def _context(ask: Ask) -> list[int]:
    """Token ids before the prompt."""
    return list(ask.prompt.context) if isinstance(ask.prompt, Single) else []


async def _before(ask: Ask, runner: TextRunner) -> str:
    context = _context(ask)
    return await runner.detokenize(context) if context else ""


async def _without_beginning(text: str, runner: TextRunner) -> str:
    """A prompt that the engine itself will tokenize, without the beginning-of-text token that it adds."""
    added, plain = await runner.tokenize("", add_special=True), await runner.tokenize("", add_special=False)
    beginning = await runner.detokenize(added[:1]) if added != plain else ""
    return text.removeprefix(beginning)


def _num_ctx(asked: int, loaded: int) -> int:
    """The context that holds for this request: what it asks for, rounded up as the engine does, within what is loaded."""
    return min(whole_blocks(asked), loaded) if asked else loaded
