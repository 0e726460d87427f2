"""What a model can do, told from its files and templates (as /api/show lists it)."""

import re
from collections.abc import Iterator

from serow.output.known import FAMILIES
from serow.output.thinking import tags_of_jinja
from serow.store.model import Capability
from serow.store.weights import Weights

_ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_JINJA_TOOLS = ("tools", "tool_call")


def capabilities(weights: Weights, *, has_projector: bool, template: str, parser: str = "") -> tuple[Capability, ...]:
    """What the model's own Jinja template, tensors, projector and TEMPLATE allow, in the peer's order, each once.

    `parser` is the peer's name for what the model writes.
    """
    return tuple(dict.fromkeys((*_found(weights, has_projector, template), *_written(parser))))


def _found(weights: Weights, has_projector: bool, template: str) -> Iterator[Capability]:
    yield from of_chat_template(weights.chat_template)
    yield "embedding" if weights.has_pooling else "completion"
    if weights.has_vision or has_projector:
        yield "vision"
    actions = " ".join(_ACTION.findall(template))
    if _uses(actions, "Tools"):
        yield "tools"
    if _uses(actions, "Suffix"):
        yield "insert"
    if _uses(actions, "Thinking", "Think", "ThinkLevel", "IsThinkSet"):
        yield "thinking"


def of_chat_template(source: str) -> Iterator[Capability]:
    """What a Jinja template shows that its model can."""
    if any(mark in source for mark in _JINJA_TOOLS):
        yield "tools"
    if "enable_thinking" in source or tags_of_jinja(source):
        yield "thinking"


def _written(parser: str) -> Iterator[Capability]:
    """What a model of this parser writes beside its answer."""
    family = FAMILIES.get(parser)
    if family and family.format:
        yield "tools"
    if family and family.tags:
        yield "thinking"


def _uses(actions: str, *names: str) -> bool:
    """Whether the actions of a Go template read one of these variables."""
    return re.search(rf"\.({'|'.join(names)})\b", actions) is not None
