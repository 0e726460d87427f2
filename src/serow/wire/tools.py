"""Tools and the choice among them, as OpenAI's two dialects spell them (OAI-12, RESP-04)."""

from collections.abc import Iterable, Sequence
from typing import Any

from serow.inference.ask import Tool, ToolChoice, ToolMode
from serow.wire.fields import Fields
from serow.wire.tool_schema import check_schema

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def function_tool(
    fields: Fields, *, prefix: str = "", schema: str = "parameters", default: dict[str, Any] | None = None
) -> Tool:
    """A tool from an object with `name`, `description` and a JSON Schema; the definition is ours, in the order models know.

    Raises RequestError that says where the schema is none: nothing could hold a call to it.
    """
    name = prefix + fields.required_text("name")
    description = fields.text("description")
    parameters = fields.mapping(schema)
    check_schema(parameters or {}, fields.at(schema))
    parameters = parameters or default or NO_ARGUMENTS
    function = {"name": name, **({"description": description} if description else {}), "parameters": parameters}
    return Tool(name, parameters, {"type": "function", "function": function}, description)


def chat_tools(fields: Fields) -> list[Tool]:
    """`tools` of a chat: `{"type": "function", "function": {…}}`; the client's own object is what the template reads."""
    found, skipped = [], []
    for number, (raw, each) in enumerate(zip(fields.items("tools"), fields.members("tools"), strict=True)):
        kind = each.text("type", "function")
        if kind == "function":
            found.append(_chat_tool(raw, each))
        else:
            skipped.append((number, kind))
    warn_of_skipped(fields, skipped, is_none_left=not found)
    return found


def _chat_tool(raw: dict[str, Any], fields: Fields) -> Tool:
    inner = fields.member("function")
    if inner is None:
        raise fields.missing("function")
    tool = function_tool(inner)
    if "parameters" not in inner:
        return tool
    return Tool(tool.name, tool.parameters, {"type": "function", **raw}, tool.description)


def warn_of_skipped(fields: Fields, skipped: Sequence[tuple[int, str]], *, is_none_left: bool) -> None:
    """Say which tools can't be served; raises RequestError when no other is left."""
    for number, kind in skipped:
        text = f'tools[{number}] of type "{kind}" can\'t be served'
        if is_none_left:
            raise fields.fault(f"tools[{number}].type", f"{text}: only functions can")
        fields.warnings.append(f"{text} and was left out")


def old_functions(fields: Fields) -> list[Tool]:
    """`functions` of OpenAI's older API."""
    found = [function_tool(each) for each in fields.members("functions")]
    if found:
        fields.warnings.append('"functions" is older than "tools": calls come as tool_calls')
    return found


def tool_choice_of(fields: Fields, tools: Sequence[Tool], *, prefixes: Iterable[str] = ()) -> ToolChoice:
    """`tool_choice` and `parallel_tool_calls`; raises RequestError for a tool that is not among `tools`."""
    mode, names = _choice(fields, "tool_choice")
    parallel = fields.flag("parallel_tool_calls", default=True)
    known = {tool.name for tool in tools}
    found = tuple(_known_name(fields, name, known, prefixes) for name in names)
    if mode == "required" and not known:
        raise fields.fault("tool_choice", 'tool_choice asks for a call, but there are no "tools"')
    return ToolChoice(mode, found, parallel)


def _known_name(fields: Fields, name: str, known: set[str], prefixes: Iterable[str]) -> str:
    for candidate in (name, *(f"{prefix}{name}" for prefix in prefixes)):
        if candidate in known:
            return candidate
    raise fields.fault("tool_choice", f'tool_choice names "{name}", which is not among the tools')


def _choice(fields: Fields, field: str) -> tuple[ToolMode, list[str]]:
    value = fields.value(field)
    if value is None:
        return "auto", []
    if isinstance(value, str):
        return _mode(fields, field, value), []
    choice = fields.member(field)
    assert choice is not None
    kind = choice.text("type")
    if kind in ("function", "custom"):
        return "required", [_chosen_name(choice, kind)]
    if kind == "allowed_tools":
        inner = choice.member("allowed_tools") or choice
        names = [_chosen_name(each, "function") for each in inner.members("tools")]
        if not names:
            raise inner.missing("tools")
        return _mode(inner, "mode", inner.text("mode", "auto")), names
    raise choice.fault("type", f'{choice.at("type")} "{kind}" is not one of function, allowed_tools')


def _chosen_name(choice: Fields, kind: str) -> str:
    """The name, beside the type or in an object of the type's name."""
    return (choice.member(kind) or choice).required_text("name")


def _mode(fields: Fields, name: str, value: str) -> ToolMode:
    modes: dict[str, ToolMode] = {"none": "none", "auto": "auto", "required": "required"}
    if value not in modes:
        raise fields.fault(name, f'{fields.at(name)} "{value}" is not one of none, auto, required, or the name of a tool')
    return modes[value]


def old_choice_of(fields: Fields, tools: Sequence[Tool]) -> ToolChoice:
    """`function_call` of OpenAI's older API: "none", "auto" or `{"name"}`."""
    value = fields.value("function_call")
    if not isinstance(value, dict):
        return ToolChoice(_mode(fields, "function_call", fields.text("function_call", "auto")))
    choice = fields.member("function_call")
    assert choice is not None
    name = choice.required_text("name")
    if name not in {tool.name for tool in tools}:
        raise choice.fault("name", f'function_call names "{name}", which is not among the functions')
    return ToolChoice("required", (name,), parallel=False)
