"""A TEMPLATE in Go's text/template: what it knows of messages and tools, by the names that the peer gives them (CHAT-07)."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from serow.gotemplate import JsonMap, Slice, Struct, Template, parse
from serow.gotemplate.budget import Budget
from serow.inference.ask import Tool, ToolCall
from serow.prompt.turns import Turn

DEFAULT = "{{ .Prompt }}"
_REMEMBERED, _REMEMBERED_SIZE = 64, 4 << 20  # templates, and characters of all
_parsed: OrderedDict[str, Template] = OrderedDict()  # the longest unused first


def parsed(text: str) -> Template:
    """A template; the latest are remembered. Raises TemplateError."""
    found = _parsed.pop(text, None) or parse(text)
    _parsed[text] = found
    while len(_parsed) > _REMEMBERED or sum(map(len, _parsed)) > _REMEMBERED_SIZE:
        _parsed.popitem(last=False)
    return found


def is_parsed(text: str) -> bool:
    """Whether `parsed` returns at once."""
    return text in _parsed


def run_named(name: str, source: str, args: tuple[Any, ...]) -> str:
    """`render` or `fill_in`, for a process that knows both function and template by name."""
    functions: dict[str, Callable[..., str]] = {"render": render, "fill_in": fill_in}
    return functions[name](parsed(source), *args, Budget())


def render(template: Template, turns: Sequence[Turn], think: bool | str | None, tools: Sequence[Tool], budget: Budget) -> str:
    """Render by Go's rules: Messages where the template knows them, else one exchange at a time. Raises TemplateError."""
    values, turns = {**_think_values(think), "Tools": _tools(tools)}, _collated(turns)
    if template.uses("Messages"):
        system = "\n\n".join(turn.content for turn in turns if turn.role == "system")
        values |= {"System": system, "Messages": list(map(_message, turns)), "Response": ""}
        return template.render(values, budget=budget)
    template = template if template.uses("Response") else parsed(template.source + "{{ .Response }}")
    *done, last = _exchanges(turns)
    before = [template.render({**exchange, **values}, budget=budget) for exchange in done]
    return "".join([*before, template.render({**last, **values}, stop_at="Response", budget=budget)])


def fill_in(template: Template, prefix: str, suffix: str, budget: Budget) -> str:
    """The prompt of an insert template; system and chat format are left out."""
    values = {"Prompt": prefix, "Suffix": suffix, "System": "", "Response": ""}
    return template.render(values, stop_at="Response", budget=budget)


def _think_values(think: bool | str | None) -> dict[str, Any]:
    level = think if isinstance(think, str) else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def _collated(turns: Sequence[Turn]) -> list[Turn]:
    """One message of those of a role that follow one another, a blank line between them, as the peer has it."""
    collated: list[Turn] = []
    for role, group in groupby(turns, lambda turn: turn.role):
        same = list(group)
        collated += [_joined(same)] if role != "tool" and len(same) > 1 else same
    return collated


def _joined(turns: Sequence[Turn]) -> Turn:
    return Turn(
        turns[0].role,
        "\n\n".join(turn.content for turn in turns),
        "\n\n".join(turn.thinking for turn in turns if turn.thinking),
        tuple(call for turn in turns for call in turn.tool_calls),
        pictures=tuple(picture for turn in turns for picture in turn.pictures),
    )


def _exchanges(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Group messages into System, Prompt, Response, a new group where one of them would be overwritten."""
    variables = {"system": "System", "user": "Prompt", "assistant": "Response"}
    order = list(variables.values())
    exchanges = [dict.fromkeys(order, "")]
    for turn in turns:
        name = variables.get(turn.role, "Prompt")
        if any(exchanges[-1][later] for later in order[order.index(name) :]):
            exchanges.append(dict.fromkeys(order, ""))
        exchanges[-1][name] = turn.content
    return exchanges


def _message(turn: Turn) -> Struct:
    calls = tuple(_call(number, call) for number, call in enumerate(turn.tool_calls))
    return Struct(
        {
            "Role": turn.role,
            "Content": turn.content,
            "Thinking": turn.thinking,
            "Images": Slice(turn.pictures or None),
            "ToolCalls": Slice(calls or None),
            "ToolName": turn.tool_name,
            "ToolCallID": turn.tool_call_id,
        }
    )


def _call(number: int, call: ToolCall) -> Struct:
    function = Struct({"Index": number, "Name": call.name, "Arguments": JsonMap(arguments_of(call))})
    return Struct({"ID": call.id, "Function": function})


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; what is none, as another dialect lets through, stands in one by itself."""
    try:
        found = json.loads(call.arguments)
    except ValueError:
        found = call.arguments
    return found if isinstance(found, dict) else {"arguments": found}


def _tools(tools: Sequence[Tool]) -> Slice:
    found = tuple(map(_tool, tools))
    return Slice(found or None, type_name="api.Tools", prints_json=True)


def _tool(tool: Tool) -> Struct:
    parameters = tool.parameters
    properties = parameters.get("properties")
    known = JsonMap({name: _property(each) for name, each in properties.items()}) if isinstance(properties, dict) else JsonMap()
    function = Struct(
        {
            "Name": tool.name,
            "Description": tool.description,
            "Parameters": Struct(
                {
                    "Type": _type(parameters),
                    "Defs": parameters.get("$defs"),
                    "Items": parameters.get("items"),
                    "Required": _strings(parameters.get("required")),
                    "Properties": known,
                },
                json=parameters,
            ),
        },
        json=tool.definition.get("function", {}),
    )
    return Struct({"Type": "function", "Items": None, "Function": function}, json=tool.definition)


def _property(schema: Any) -> Struct:
    schema = schema if isinstance(schema, Mapping) else {}
    choices, enum = schema.get("anyOf"), schema.get("enum")
    return Struct(
        {
            "AnyOf": Slice(tuple(map(_property, choices)) if isinstance(choices, list) and choices else None),
            "Type": _type(schema),
            "Items": schema.get("items"),
            "Description": str(schema.get("description", "")),
            "Enum": Slice(tuple(enum) if isinstance(enum, list) and enum else None),
            "Properties": schema.get("properties"),
            "Required": _strings(schema.get("required")),
        },
        json=dict(schema),
    )


def _type(schema: Mapping[str, Any]) -> str | Slice:
    found = schema.get("type")
    if isinstance(found, list) and len(found) != 1:
        return Slice(tuple(map(str, found)), type_name="api.PropertyType")
    return str(found[0] if isinstance(found, list) else found or "")


def _strings(value: Any) -> Slice:
    return Slice(tuple(map(str, value)) if isinstance(value, list) and value else None, type_name="[]string")
