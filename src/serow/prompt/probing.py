"""A probe's conversations, rendered as those of clients are: by the TEMPLATE that serves, or by the GGUF's Jinja."""

import json
from typing import Any

from serow.engines.base import TextRunner
from serow.inference.ask import Tool, ToolCall
from serow.output.probe import Render
from serow.prompt import jinja
from serow.prompt.templates import Rendering
from serow.prompt.turns import Turn


def probe(template: str, rendering: Rendering, runner: TextRunner) -> Render:
    """What renders for a probe. `template` is a Go template, "" for the engine's own."""

    async def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        turns = [_turn(message) for message in messages]
        if not template:
            return await runner.apply_template(jinja.messages_of(turns), {}, tools, rendering.client)
        return await rendering.render(template, turns, None, [_tool(each) for each in tools])

    return render


def _turn(message: dict[str, Any]) -> Turn:
    calls = tuple(_call(each) for each in message.get("tool_calls", ()))
    return Turn(
        message["role"],
        message["content"] or "",
        tool_calls=calls,
        tool_name=message.get("name", ""),
        tool_call_id=message.get("tool_call_id", ""),
    )


def _call(call: dict[str, Any]) -> ToolCall:
    arguments = call["function"]["arguments"]
    return ToolCall(call["function"]["name"], arguments if isinstance(arguments, str) else json.dumps(arguments), call["id"])


def _tool(definition: dict[str, Any]) -> Tool:
    function = definition["function"]
    return Tool(function["name"], function["parameters"], definition, function["description"])
