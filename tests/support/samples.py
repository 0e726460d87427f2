"""A body of every route that takes one: all is in it that a client may say, and all of it is right."""

from typing import Any

_CALL = {"name": "add", "arguments": {"a": 1}}
_TOOL = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"type": ["string", "null"], "pattern": "^a{1,3}$"}},
    "required": ["a"],
    "allOf": [{"$ref": "#/$defs/c"}],
    "$defs": {"c": {"not": {"enum": [1, "x"]}}},
}
SAMPLES: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "zoo-think", "prompt": "Hi", "stream": False, "options": {"num_predict": 2, "stop": ["x"]}},
    "/api/chat": {
        "model": "zoo-think",
        "messages": [
            {"role": "system", "content": "x"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [{"function": _CALL}]},
            {"role": "tool", "content": "1", "tool_name": "add"},
        ],
        "tools": [{"type": "function", "function": _TOOL}],
        "stream": False,
    },
    "/api/embed": {"model": "zoo-think", "input": ["a", "b"]},
    "/api/embeddings": {"model": "zoo-think", "prompt": "a"},
    "/api/show": {"model": "zoo-think"},
    "/api/create": {
        "model": "made",
        "from": "zoo-think",
        "stream": False,
        "messages": [{"role": "user", "content": "x"}],
        "license": ["a"],
        "parameters": {"stop": ["a"]},
    },
    "/api/copy": {"source": "zoo-think", "destination": "made"},
    "/api/delete": {"model": "nobody"},
    "/api/pull": {"model": "host.invalid/a/b", "stream": False},
    "/api/push": {"model": "nobody", "stream": False},
    "/v1/chat/completions": {
        "model": "zoo-think",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "tools": [{"type": "function", "function": _TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
        "stream_options": {"include_usage": True},
        "logit_bias": {"1": 2},
        "stop": ["x"],
    },
    "/v1/completions": {"model": "zoo-think", "prompt": ["Hi", "a"], "max_tokens": 2, "suffix": None},
    "/v1/embeddings": {"model": "zoo-think", "input": [[1, 2], [3]], "encoding_format": "base64"},
    "/v1/responses": {
        "model": "zoo-think",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
        "tools": [{"type": "function", **_TOOL}],
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    },
    "/v1/messages": {
        "model": "zoo-think",
        "max_tokens": 2,
        "system": [{"type": "text", "text": "x"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1"}]},
        ],
        "tools": [{"name": "add", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 2},
        "metadata": {"user_id": "u"},
    },
    "/v1/images/generations": {"model": "zoo-think", "prompt": "a", "size": "64x64", "n": 1},
    "/v1/messages/count_tokens": {"model": "zoo-think", "messages": [{"role": "user", "content": "Hi"}]},
    "/api/prune": {},
    "/api/verify": {"model": "zoo-think"},
    "/page/api/markdown": {"text": "# a\n```x\n```"},
}
