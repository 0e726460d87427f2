"""From one text to the text of a prompt: which renderer, which variables (GEN-08, GEN-09, GEN-10).

A request's or model's TEMPLATE is Go's text/template and runs here, bounded; a GGUF's own Jinja template runs in a
worker, never in our own process.
"""

from itertools import takewhile

from serow.engines.base import TextRunner
from serow.gotemplate import thinking_tags
from serow.inference.ask import Conversation, Insert, Raw, Single
from serow.inference.ask import Prompt as AskPrompt
from serow.output.known import FAMILIES
from serow.output.thinking import CHANNELS, KNOWN_TAGS, ThinkingTags, tags_of_jinja
from serow.prompt import go, jinja
from serow.prompt.media import with_image_markers
from serow.prompt.templates import Rendering
from serow.prompt.turns import Turn
from serow.store.model import Model


def tags_of(model: Model, prompt: AskPrompt) -> ThinkingTags | None:
    """The tags around the model's thinking, None for a model that can't think, or whose text is not looked into."""
    family = FAMILIES.get(model.parser)
    if "thinking" not in model.capabilities or (family and family.format is None):
        return None
    template = template_of(model, prompt)
    found = thinking_tags(go.parsed(template)) if template else None
    if found is not None:
        return CHANNELS if CHANNELS.opening in found[0] else ThinkingTags(*found)
    return tags_of_jinja(model.chat_template) or (family and family.tags) or KNOWN_TAGS[0]


def template_of(model: Model, prompt: AskPrompt) -> str:
    """The Go template that serves: the Ask's own, else the model's."""
    return (prompt.template if isinstance(prompt, Single | Insert) else "") or model.template


def has_template(model: Model, prompt: AskPrompt) -> bool:
    """Whether messages can be told apart, and a system text placed."""
    return bool(template_of(model, prompt) or model.chat_template)


def unplaced(model: Model, prompt: AskPrompt) -> list[str]:
    """Which texts of a client nothing places: `prompt`, `system`, `system messages`."""
    template = template_of(model, prompt)
    uses = go.parsed(template).uses if template else None
    if isinstance(prompt, Raw | Insert) or (uses and uses("Messages")):
        return []
    has_system = bool(uses("System") if uses else model.chat_template)
    if isinstance(prompt, Single):
        given = ("prompt", prompt.prompt, not uses or uses("Prompt")), ("system", prompt.system, has_system)
        return [name for name, text, is_placed in given if text and not is_placed]
    messages = prompt.messages if isinstance(prompt, Conversation) else ()
    if isinstance(prompt, Conversation) and prompt.folds_system:  # the later ones have a place in the user's turns
        messages = list(takewhile(lambda each: each.role == "system", messages))
    return ["system messages"] if not has_system and any(each.role == "system" for each in messages) else []


def supports_insert(model: Model, prompt: Insert) -> bool:
    """Whether a suffix can be served: by the template or by the model's own tokens."""
    template = template_of(model, prompt)
    return bool(template and go.parsed(template).uses("Suffix")) or model.fim_tokens is not None


def is_template_unused(prompt: Insert) -> bool:
    """Whether the Ask's own template has no place for the suffix, so that the model's tokens fill in the middle."""
    return bool(prompt.template) and not go.parsed(prompt.template).uses("Suffix")


async def render(model: Model, prompt: AskPrompt, think: bool | str | None, rendering: Rendering, runner: TextRunner) -> str:
    """The prompt's text, pictures as `[img-N]`; raises TemplateError. With `context` only what follows it."""
    match prompt:
        case Raw(text):
            return with_image_markers(text if isinstance(text, str) else await runner.detokenize(text), len(prompt.images))
        case Insert():
            return await _insert(model, prompt, rendering, runner)
        case Single():
            return await _single(model, prompt, think, rendering, runner)
        case _:
            raise TypeError(f"{type(prompt).__name__} is no prompt of one text")


async def _single(model: Model, asked: Single, think: bool | str | None, rendering: Rendering, runner: TextRunner) -> str:
    prompt = with_image_markers(asked.prompt, len(asked.images))
    turns = _turns(model, asked, prompt)
    if template := template_of(model, asked):
        return await rendering.render(template, turns, think)
    if not model.chat_template:
        return prompt
    if asked.context:
        return await jinja.next_turn(asked.system, prompt, think, runner, rendering.client)
    return await runner.apply_template(jinja.messages_of(turns), jinja.template_kwargs(think), (), rendering.client)


def _turns(model: Model, asked: Single, prompt: str) -> list[Turn]:
    system = asked.system or model.system
    first = [Turn("system", system)] if system else []
    begun = () if asked.context else model.messages  # the context holds them already
    return [*first, *(Turn(message["role"], message["content"]) for message in begun), Turn("user", prompt)]


async def _insert(model: Model, asked: Insert, rendering: Rendering, runner: TextRunner) -> str:
    """Fill in the middle by the insert template, else by the model's own tokens; system and chat format are left out."""
    template = template_of(model, asked)
    if template and go.parsed(template).uses("Suffix"):
        return await rendering.fill_in(template, asked.prefix, asked.suffix)
    assert model.fim_tokens is not None  # supports_insert was asked before
    prefix, suffix, middle = [await runner.detokenize([token]) for token in model.fim_tokens]
    return f"{prefix}{asked.prefix}{suffix}{asked.suffix}{middle}"
