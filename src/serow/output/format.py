"""What a tool call looks like in a model's text.

Four kinds of text hold all calls that models write:

OBJECT    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>, or a list of such objects
NAMED     [TOOL_CALLS]add[ARGS]{"a": 1}
TAGGED    <tool_call><function=add><parameter=a>1</parameter></function></tool_call>
PYTHONIC  [add(a=1)], or call:add{a:1}
"""

import re
from dataclasses import dataclass
from enum import Enum

_TAG = re.compile(r"<[^<>\s]{1,60}>|\[[A-Z_]{2,30}\]")


class Kind(Enum):
    """How name and arguments are written."""

    OBJECT = "object"
    NAMED = "named"
    TAGGED = "tagged"
    PYTHONIC = "pythonic"


@dataclass(frozen=True, slots=True)
class CallFormat:
    """The texts around a call. White space between them counts nowhere.

    Without `openings` a call is read only where the answer, or what follows a call, begins with it. `lead` may stand between an
    opening and the call, and opens one by itself. `closings` may stand behind a call. `written` is what is put before a call
    that is a must, up to its first brace or its name.
    """

    kind: Kind
    openings: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()  # marks that stand before text or a call, end the thinking and belong to nobody
    lead: str = ""
    written: str = ""
    is_list: bool = False  # one opening stands before several calls
    name: str = "name"  # OBJECT: the members that hold these; a `name` "" is the key itself, an `id` "" is not written
    arguments: str = "arguments"
    id: str = ""
    is_id_last: bool = False  # behind the arguments
    between: tuple[str, ...] = ("",)  # NAMED: what may stand between name and arguments; "\0" stands for the id
    is_name_in_id: bool = False  # NAMED: `functions.add:0` stands for the name and is the id
    name_close: str = ""  # TAGGED
    key_open: str = ""
    key_close: tuple[str, ...] = ()
    value_open: str = ""
    value_close: str = ""
    call_close: str = ""
    brackets: str = "()"  # PYTHONIC: around all arguments
    quote: str = ""  # PYTHONIC: what stands on both sides of a text, beside the quotation marks

    @property
    def behind_name(self) -> str:
        """What the text of a call goes on with behind the name."""
        return self.name_close or (self.brackets[0] if self.kind is Kind.PYTHONIC else "")

    @property
    def all_openings(self) -> tuple[str, ...]:
        """Every text behind which a call is read, the longest first."""
        return tuple(sorted({*self.openings, self.lead} - {""}, key=len, reverse=True))

    @property
    def tokens(self) -> tuple[str, ...]:
        """The control tokens that the texts may be made of: what the engine must keep visible."""
        texts = (
            *self.all_openings,
            *self.closings,
            *self.hidden,
            *self.between,
            self.name_close,
            self.key_open,
            *self.key_close,
        )
        texts += (self.value_open, self.value_close, self.call_close, self.written)
        tags = {tag for text in texts for tag in _TAG.findall(text)}
        return tuple(sorted(tags | {self.quote} - {""}))

    @property
    def is_marked(self) -> bool:
        """Whether an opening is a mark that no prose has by chance, so that what follows it can be held to the tools."""
        return any(_TAG.match(opening) for opening in self.openings)
