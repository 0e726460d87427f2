"""From a request to the text of a prompt: which renderer, which variables (GEN-08, GEN-09, GEN-10).

A request's or model's TEMPLATE is Go's text/template and runs here, bounded; a GGUF's own Jinja template runs in the
engine's process, never in ours.
"""

from functools import lru_cache
from typing import Any

from serow.gotemplate import Slice, Struct, Template, parse, thinking_tags
from serow.inference.ask import Insert, Raw, Single
from serow.inference.ask import Prompt as AskPrompt
from serow.output.thinking import CHANNELS, KNOWN_TAGS, ThinkingTags, tags_of_jinja
from serow.runner.base import TextRunner
from serow.store.model import Model

Messages = list[dict[str, Any]]
_NO_TOOLS = Slice(type_name="api.Tools", prints_json=True)
_MESSAGE_FIELDS = {
    "Role": "",
    "Content": "",
    "Thinking": "",
    "Images": Slice(),
    "ToolCalls": Slice(),
    "ToolName": "",
    "ToolCallID": "",
}


_REMEMBERED_SIZE = 64 << 10  # characters


def _parsed(text: str) -> Template:
    """A template; those of everyday size are remembered."""
    return _remembered(text) if len(text) <= _REMEMBERED_SIZE else parse(text)


@lru_cache(maxsize=64)
def _remembered(text: str) -> Template:
    return parse(text)


def tags_of(model: Model, prompt: AskPrompt) -> ThinkingTags | None:
    """The tags around the model's thinking, None for a model that can't think."""
    if "thinking" not in model.capabilities:
        return None
    template = _template(model, prompt)
    found = thinking_tags(_parsed(template)) if template else None
    if found is not None:
        return CHANNELS if CHANNELS.opening in found[0] else ThinkingTags(*found)
    return tags_of_jinja(model.chat_template) or KNOWN_TAGS[0]


def _template(model: Model, prompt: AskPrompt) -> str:
    """The Go template that serves: the Ask's own, else the model's."""
    return (prompt.template if isinstance(prompt, Single | Insert) else "") or model.template


def has_template(model: Model, prompt: AskPrompt) -> bool:
    """Whether messages can be told apart, and a system text placed."""
    return bool(_template(model, prompt) or model.chat_template)


def supports_insert(model: Model, prompt: Insert) -> bool:
    """Whether a suffix can be served: by the template or by the model's own tokens."""
    template = _template(model, prompt)
    return bool(template and _parsed(template).uses("Suffix")) or model.fim_tokens is not None


def with_image_markers(prompt: str, num_images: int) -> str:
    """Put `[img-N]` where the prompt says `[img]`, else before it, for every picture that it does not place itself (GEN-13)."""
    before = ""
    for mark in (f"[img-{n}]" for n in range(num_images) if f"[img-{n}]" not in prompt):
        if "[img]" in prompt:
            prompt = prompt.replace("[img]", mark, 1)
        else:
            before += mark
    return before + prompt


async def render(model: Model, prompt: AskPrompt, think: bool | str | None, runner: TextRunner) -> str:
    """The prompt's text, pictures as `[img-N]`; raises TemplateError. With `context` only what follows it."""
    match prompt:
        case Raw(text):
            return with_image_markers(text if isinstance(text, str) else await runner.detokenize(text), len(prompt.images))
        case Insert():
            return await _insert(model, prompt, runner)
        case Single():
            return await _single(model, prompt, think, runner)
        case _:
            raise TypeError(f"{type(prompt).__name__} is no prompt of one text")


async def _single(model: Model, asked: Single, think: bool | str | None, runner: TextRunner) -> str:
    prompt = with_image_markers(asked.prompt, len(asked.images))
    messages = _messages(model, asked, prompt)
    if template := _template(model, asked):
        return _from_template(_parsed(template), messages, think)
    if not model.chat_template:
        return prompt
    if asked.context:
        return await _next_turn(asked.system, prompt, think, runner)
    return await runner.apply_template(messages, _template_kwargs(think))


def _messages(model: Model, asked: Single, prompt: str) -> Messages:
    system = asked.system or model.system
    first = [{"role": "system", "content": system}] if system else []
    begun = () if asked.context else model.messages  # the context holds them already
    return [*first, *(dict(message) for message in begun), {"role": "user", "content": prompt}]


def _template_kwargs(think: bool | str | None) -> dict[str, Any]:
    if think is None:
        return {}
    return {"enable_thinking": bool(think), **({"reasoning_effort": think} if isinstance(think, str) else {})}


async def _insert(model: Model, asked: Insert, runner: TextRunner) -> str:
    """Fill in the middle by the insert template, else by the model's own tokens; system and chat format are left out."""
    template = _template(model, asked)
    if template and _parsed(template).uses("Suffix"):
        values = {"Prompt": asked.prefix, "Suffix": asked.suffix, "System": "", "Response": ""}
        return _parsed(template).render(values, stop_at="Response")
    assert model.fim_tokens is not None  # supports_insert was asked before
    prefix, suffix, middle = [await runner.detokenize([token]) for token in model.fim_tokens]
    return f"{prefix}{asked.prefix}{suffix}{asked.suffix}{middle}"


def _think_values(think: bool | str | None) -> dict[str, Any]:
    level = think if isinstance(think, str) else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def _from_template(template: Template, messages: Messages, think: bool | str | None) -> str:
    """Render by Go's rules: Messages where the template knows them, else one exchange at a time."""
    values, messages = _think_values(think), _collated(messages)
    if template.uses("Messages"):
        system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        structs = [_message_struct(message) for message in messages]
        return template.render({"System": system, "Messages": structs, "Response": "", "Tools": _NO_TOOLS, **values})
    template = template if template.uses("Response") else _parsed(template.source + "{{ .Response }}")
    *done, last = _exchanges(messages)
    return "".join(template.render({**exchange, **values}) for exchange in done) + template.render(
        {**last, **values}, stop_at="Response"
    )


def _collated(messages: Messages) -> Messages:
    """One message of those of a role that follow one another, a blank line between them, as the peer has it."""
    collated: Messages = []
    for message in messages:
        if collated and collated[-1]["role"] == message["role"] != "tool":
            collated[-1] = {**collated[-1], "content": f"{collated[-1]['content']}\n\n{message['content']}"}
        else:
            collated.append(message)
    return collated


def _message_struct(message: dict[str, Any]) -> Struct:
    return Struct({**_MESSAGE_FIELDS, "Role": message["role"], "Content": message["content"]})


def _exchanges(messages: Messages) -> list[dict[str, str]]:
    """Group messages into System, Prompt, Response, a new group where one of them would be overwritten."""
    variables = {"system": "System", "user": "Prompt", "assistant": "Response"}
    order = list(variables.values())
    exchanges = [dict.fromkeys(order, "")]
    for message in messages:
        name = variables.get(message["role"], "Prompt")
        if any(exchanges[-1][later] for later in order[order.index(name) :]):
            exchanges.append(dict.fromkeys(order, ""))
        exchanges[-1][name] = message["content"]
    return exchanges


_ANSWER = "serow-placeholder-answer"


async def _next_turn(system: str, prompt: str, think: bool | str | None, runner: TextRunner) -> str:
    """What follows an earlier conversation: the end of its last answer, then the new turn.

    A Jinja template renders whole conversations only, and some open every one with a default system prompt. So a
    conversation with a placeholder for the answer is rendered, and what stands behind the placeholder is the next turn.
    """
    past = [{"role": "user", "content": "."}, {"role": "assistant", "content": _ANSWER}]
    turn = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt}]
    rendered = await runner.apply_template([*past, *turn], _template_kwargs(think))
    _, found, following = rendered.partition(_ANSWER)
    return following if found else await runner.apply_template(turn, _template_kwargs(think))
