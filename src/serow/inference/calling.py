"""The tools of a conversation as one model calls them: where a run of the engine stops, and what holds the next one (TOOL-07).

A format whose arguments are JSON is held to the tools behind the opening of a call; the others are read as they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from serow.constraints import Constraint, Constraints, Shape, one_of
from serow.engines.base import TextRunner
from serow.inference.ask import Conversation, Tool, ToolChoice
from serow.inference.events import ToolCallEnd
from serow.output.format import CallFormat, Kind
from serow.output.known import BARE, FAMILIES
from serow.output.probe import Prober
from serow.prompt.probing import probe
from serow.prompt.templates import Rendering, Templates
from serow.store.model import Model

_MOST_CHECKED = 16  # calls of one answer


@dataclass(frozen=True)
class Calling:
    """How a model calls, the tools it may call, and whether it must."""

    format: CallFormat
    tools: Sequence[Tool]
    choice: ToolChoice
    constraints: Constraints
    client: str = ""

    @property
    def is_must(self) -> bool:
        """Whether the answer is a call."""
        return self.choice.mode == "required"

    @property
    def can_bind(self) -> bool:
        """Whether what follows an opening can be held to the tools."""
        return self.format.kind in (Kind.OBJECT, Kind.NAMED) and self.format.is_marked

    @property
    def stops(self) -> tuple[str, ...]:
        """What ends a free run, so that the next one is held."""
        return self.format.all_openings if self.can_bind else ()

    def rest_of(self, opening: str) -> str:
        """What is written behind an opening without asking the model: marks that must come, no mere white space."""
        _, found, rest = self.format.written.partition(opening)
        is_needed = found and opening != self.format.lead and rest.strip()
        return rest if is_needed else ""

    async def object(self) -> Constraint | None:
        """What a call is, for OBJECT."""
        format = self.format
        shape = Shape(format.name, format.arguments, format.id, format.is_id_last)
        return await self.constraints.call_of([(tool.name, tool.parameters) for tool in self.tools], shape, self.client)

    def names(self, num_calls: int) -> Constraint:
        """The names of the tools, as NAMED writes them."""
        names = [tool.name for tool in self.tools]
        return one_of([f"functions.{name}:{num_calls}" for name in names] if self.format.is_name_in_id else names)

    def named(self, text: str) -> Tool | None:
        """The tool that a text names as `names` does."""
        name = text.strip()
        if self.format.is_name_in_id:
            name = name.removeprefix("functions.").rpartition(":")[0]
        return next((tool for tool in self.tools if tool.name == name), None)

    @property
    def between(self) -> str:
        """What is written between name and arguments."""
        return next((text for text in self.format.between if "\0" not in text), "")

    async def arguments(self, tool: Tool) -> Constraint | None:
        """What the arguments of a tool are."""
        return await self.constraints.arguments_of(tool.parameters, self.client)

    async def unfit(self, calls: Sequence[ToolCallEnd]) -> list[str]:
        """What is to be said of calls that were not held to their tools and do not fit them."""
        if self.can_bind and not self.format.is_list:  # of a list only the first is held
            return []
        parameters = {tool.name: tool.parameters for tool in self.tools}
        found = []
        for call in calls[:_MOST_CHECKED]:
            if not await self.constraints.fits(parameters[call.name], call.arguments, self.client):
                found.append(f'the arguments of the call of "{call.name}" do not fit its parameters')
        return list(dict.fromkeys(found))


class Toolbox:
    """What it takes to find out how a model calls: one for a server."""

    def __init__(self, constraints: Constraints, templates: Templates) -> None:
        self._constraints = constraints
        self._templates = templates
        self._prober = Prober()

    async def calling(
        self, model: Model, conversation: Conversation, template: str, runner: TextRunner, client: str
    ) -> Calling | None:
        """How the model calls the tools of a conversation, None where nothing it writes is a call.

        `template` is the Go template that serves, "" for the GGUF's Jinja.
        """
        choice = conversation.tool_choice
        tools = [tool for tool in conversation.tools if not choice.names or tool.name in choice.names]
        family = FAMILIES.get(model.parser)
        if choice.mode == "none" or not tools or (family is not None and family.format is None):
            return None
        source = template or model.chat_template
        found = await self._prober.format_of(source, probe(template, Rendering(self._templates, client), runner))
        if found == BARE and family is not None and family.format is not None:
            found = family.format
        return Calling(found, tools, choice, self._constraints, client)
