"""What a client wants, whatever dialect it spoke.

A file of `wire/` decodes a body to an `Ask`; the flow reads nothing else. The fields keep the names of Ollama's API.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ThinkLevel = Literal["low", "medium", "high", "max"]
Purpose = Literal["generate", "chat", "embed"]
ToolMode = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a message: text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A part of a message: a picture as the client sent it, base64 or a data URI; it is decoded once the model is known."""

    data: str


Part = Text | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the history. `arguments` is the JSON text of an object, in the client's order.

    Where the client wrote text itself (OpenAI's dialect) it is that text byte for byte, JSON or not.
    """

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `role` in lower case.

    The result of a tool says by `tool_call_id` or `tool_name` which call it answers.
    """

    role: str
    content: tuple[Part, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """The text of all parts."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `definition` is the client's own object, whole: the template reads it."""

    name: str
    parameters: dict[str, Any]  # JSON Schema of the arguments
    definition: dict[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may, must or must not call; `names`: only these tools. Without `parallel` one call at most."""

    mode: ToolMode = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Nothing:
    """No prompt: the model is loaded, or with `keep_alive` 0 unloaded. `purpose`: what for; `tools` that it has to know."""

    purpose: Purpose = "generate"
    tools: "Sequence[Tool]" = ()


@dataclass(frozen=True, slots=True)
class Single:
    """One prompt as /api/generate has it. On an image model it is the description of a picture."""

    prompt: str
    system: str = ""
    template: str = ""
    context: Sequence[int] = ()  # token ids that stand before it
    images: Sequence[str] = ()  # base64 or data URIs


@dataclass(frozen=True, slots=True)
class Raw:
    """A prompt that reaches the model as it is: text, or token ids. `echo`: its log-probabilities are wanted, too."""

    prompt: str | Sequence[int]
    images: Sequence[str] = ()
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Insert:
    """The middle between `prefix` and `suffix` is wanted."""

    prefix: str
    suffix: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and the tools that the model may call. The answer goes on from a last message of the assistant."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = ToolChoice()
    template_kwargs: dict[str, Any] = field(
        default_factory=dict
    )  # `chat_template_kwargs` of OpenAI's dialect, for Jinja templates
    folds_system: bool = False  # a later system message is the user's where the template has no place for it (ANT-03)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to draw. None: what the model's options say."""

    prompt: str
    width: int | None = None  # pixels
    height: int | None = None
    steps: int | None = None
    images: Sequence[str] = ()  # to start from


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts, or lists of token ids, of which each becomes one vector. `dimensions` None: all that the model has."""

    inputs: Sequence[str | Sequence[int]]
    dimensions: int | None = None
    normalize: bool | None = True  # to length 1; None: where the model itself does


Prompt = Nothing | Single | Raw | Insert | Conversation | Picture | Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A validated request.

    `options` holds what it gave; `fallbacks` lie under the model's own parameters, where a dialect has other defaults.
    `keep_alive` in seconds, `math.inf` for ever, None: not given. `truncate`: a prompt that is too long may be cut, and the
    answer says so. `warnings` names what decoding found and nothing uses; `given` the fields that hold more than their
    default, so that those which the model has no use for can be named.
    """

    model: str  # as asked
    prompt: Prompt
    stream: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    fallbacks: dict[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None
    format: Any = None
    think: bool | str | None = None
    think_required: bool = True  # False: a model that can't think answers without, and `warnings` says so
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = False
    warnings: tuple[str, ...] = ()
    given: tuple[str, ...] = ()  # by the wire's names

    @property
    def text(self) -> str:
        """What the client wrote as the prompt, for who logs it."""
        match self.prompt:
            case Single(prompt=str(text)) | Raw(prompt=str(text)) | Insert(prefix=text) | Picture(prompt=text):
                return text
            case Conversation(messages):
                return messages[-1].text if messages else ""
            case _:
                return ""

    @property
    def is_unload(self) -> bool:
        """Whether nothing is asked for but that the model leave memory."""
        return isinstance(self.prompt, Nothing) and self.keep_alive == 0

    @property
    def has_pictures(self) -> bool:
        """Whether pictures are part of the prompt."""
        match self.prompt:
            case Single(images=images) | Raw(images=images) | Picture(images=images):
                return bool(images)
            case Conversation(messages):
                return any(isinstance(part, Image) for message in messages for part in message.content)
            case _:
                return False

    @property
    def purpose(self) -> Purpose:
        """What the model is needed for."""
        match self.prompt:
            case Nothing(purpose=purpose):
                return purpose
            case Conversation():
                return "chat"
            case Inputs():
                return "embed"
            case _:
                return "generate"
