"""Limits of what a request may hold, beyond the size of its body. Each is a setting; what is over it gets a 400.

Pixels are counted where pictures are decoded (`images.py`), schemas and grammars where they are compiled (`constraints`).
"""

from collections.abc import Iterator

import msgspec

from serow import bounds
from serow.errors import RequestError
from serow.inference.ask import Ask, Conversation, Image, Inputs, Insert, Message, Nothing, Picture, Raw, Single
from serow.settings import Settings

Size = tuple[str, int, str]  # what, how much of what


def check(ask: Ask, settings: Settings) -> None:
    """Raise RequestError for what is larger than the settings allow, with its name and the limit."""
    most = {"characters": settings.max_prompt, "tokens": settings.max_prompt, "pictures": settings.max_images}
    match ask.prompt:
        case Conversation(messages, tools):
            bounds.MESSAGES.check(len(messages), '"messages"')
            bounds.TOOLS.check(len(tools), '"tools"')
        case Inputs(inputs):
            bounds.INPUTS.check(len(inputs), '"input"')
    for name, size, unit in _sizes(ask):
        if size > most[unit]:
            raise RequestError(f'"{name}" holds {size} {unit}, more than the {most[unit]} allowed')


def _sizes(ask: Ask) -> Iterator[Size]:
    match ask.prompt:
        case Nothing():
            return
        case Single(prompt, system, template, context, images):
            yield from (("prompt", len(prompt), "characters"), ("system", len(system), "characters"))
            yield from (("template", len(template), "characters"), ("context", len(context), "tokens"))
            yield "images", len(images), "pictures"
        case Raw(prompt, images):
            yield "prompt", len(prompt), "characters" if isinstance(prompt, str) else "tokens"
            yield "images", len(images), "pictures"
        case Insert(prefix, suffix, template):
            yield from (("prompt", len(prefix), "characters"), ("suffix", len(suffix), "characters"))
            yield "template", len(template), "characters"
        case Picture(prompt, images=images):
            yield from (("prompt", len(prompt), "characters"), ("images", len(images), "pictures"))
        case Conversation(messages, tools):
            parts = [part for message in messages for part in message.content]
            yield "messages", sum(map(_size, messages)), "characters"
            yield "tools", sum(len(msgspec.json.encode(tool.definition)) for tool in tools), "characters"
            yield "messages", sum(isinstance(part, Image) for part in parts), "pictures"
        case Inputs(inputs):
            yield from (("input", len(each), "characters" if isinstance(each, str) else "tokens") for each in inputs)


def _size(message: Message) -> int:
    """Characters of a message, its calls and all names included."""
    calls = sum(len(call.name) + len(call.arguments) + len(call.id) for call in message.tool_calls)
    names = len(message.role) + len(message.tool_name) + len(message.tool_call_id)
    return len(message.text) + len(message.thinking) + calls + names
