"""The messages of a conversation as templates get them: in order, roles and results sorted out, pictures as numbers."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from serow.bounds import WARNINGS, quoted
from serow.errors import RequestError
from serow.inference.ask import Conversation, Image, Message, ToolCall
from serow.output.thinking import ThinkingTags
from serow.store.model import Model

_PICTURE = "[img]"
KNOWN_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as a template reads it. `pictures` are the numbers of its pictures among all of the request."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    pictures: tuple[int, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether an answer goes on from it, where it is the last one (CHAT-06)."""
        return self.role == "assistant" and not self.tool_calls


def turns_of(model: Model, conversation: Conversation, tags: ThinkingTags | None) -> list[Turn]:
    """SYSTEM, the model's MESSAGE lines, the request's messages (CHAT-05); raises RequestError for results of no call."""
    turns = list(_numbered(conversation.messages))
    own = [Turn(message["role"].lower(), message["content"]) for message in model.messages]
    num_first = next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))
    if num_first == 0 and model.system:
        own.insert(0, Turn("system", model.system))
    return _without_thoughts(_answered([*turns[:num_first], *own, *turns[num_first:]]), tags)


def unknown_roles(conversation: Conversation) -> list[str]:
    """What is said of roles that most templates drop (CHAT-04)."""
    roles = dict.fromkeys(_role(message) for message in conversation.messages)
    strange = [role for role in roles if role not in (*KNOWN_ROLES, "")]
    said = [f'the role "{quoted(role)}" is not known: most templates leave its messages out' for role in strange]
    rest = len(said) - WARNINGS.limit
    return [*said[: WARNINGS.limit], f"{rest} more roles are not known"] if rest > 0 else said


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _numbered(messages: Sequence[Message]) -> Iterator[Turn]:
    num_pictures = 0
    for message in messages:
        pictures = range(num_pictures, num_pictures + sum(isinstance(part, Image) for part in message.content))
        num_pictures = pictures.stop
        yield Turn(
            _role(message),
            _content(message),
            message.thinking,
            message.tool_calls,
            message.tool_name,
            message.tool_call_id,
            tuple(pictures),
        )


def _content(message: Message) -> str:
    """The text, with `[img]` where a picture stands behind text; the others go before it."""
    kinds = [isinstance(part, Image) for part in message.content]
    if kinds == sorted(kinds, reverse=True):
        return message.text
    return "".join(_PICTURE if isinstance(part, Image) else part.text for part in message.content)


def _answered(turns: list[Turn]) -> list[Turn]:
    """Results of tools with the name and id of the call that they answer: by id or name, else the next one (TOOL-06)."""
    waiting = Waiting(())
    found = []
    for turn in turns:
        if turn.role == "tool":
            call = waiting.take(turn)
            if call is not None:
                turn = replace(turn, tool_name=turn.tool_name or call.name, tool_call_id=turn.tool_call_id or call.id)
        elif turn.role == "assistant":
            waiting = Waiting(turn.tool_calls)
        found.append(turn)
    return found


class Waiting:
    """Calls that no result has answered yet. However many there are, one is found at once."""

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        self._calls = calls
        self._is_taken = [False] * len(calls)
        self._places: defaultdict[tuple[str, str | None], deque[int]] = defaultdict(deque)  # by what a result may say of them
        for place, call in enumerate(calls):
            for key in (("name", call.name), ("name", None)):
                self._places[key].append(place)
            for key in (("id", call.id),) if call.id else (("no id", call.name), ("no id", None)):
                self._places[key].append(place)

    def take(self, turn: Turn) -> ToolCall | None:
        """The first call that a result may answer: of its id, or without one and of its name, where it says one."""
        name = turn.tool_name or None
        keys = (("id", turn.tool_call_id), ("no id", name)) if turn.tool_call_id else (("name", name),)
        first = min((place for key in keys if (place := self._first(self._places.get(key))) is not None), default=None)
        if first is None:
            return None
        self._is_taken[first] = True
        return self._calls[first]

    def _first(self, places: deque[int] | None) -> int | None:
        while places and self._is_taken[places[0]]:
            places.popleft()
        return places[0] if places else None


def _without_thoughts(turns: list[Turn], tags: ThinkingTags | None) -> list[Turn]:
    """Thinking that clients left in an answer's text is cut off before the last message of the user (CHAT-10)."""
    if tags is None:
        return turns
    last = max((number for number, turn in enumerate(turns) if turn.role == "user"), default=0)
    return [
        replace(turn, content=tags.without_thinking(turn.content)) if turn.role == "assistant" and number < last else turn
        for number, turn in enumerate(turns)
    ]


def check_end(turns: Sequence[Turn]) -> None:
    """Raise RequestError for two open answers at the end: only one can go on."""
    if len(turns) > 1 and turns[-1].is_open and turns[-2].is_open:
        raise RequestError("the conversation ends in two assistant messages: only one can be continued")
