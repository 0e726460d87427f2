"""Messages, tools and templates that the tests of conversations share."""

from typing import Any

from serow.store.model import Capability

THINKS: tuple[Capability, ...] = ("completion", "thinking")
TOOLS: tuple[Capability, ...] = ("completion", "tools")
THINK = "{{ messages }}<think>"  # a Jinja template that names the tags
MESSAGES = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}<assistant>"
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}


def said(role: str, content: str = "", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}
