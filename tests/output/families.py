"""Chat templates of many families, after their published formats, and what their models write."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from serow.errors import TemplateError
from serow.inference.ask import Tool
from serow.inference.events import Delta, Event, ToolCallArguments, ToolCallEnd, ToolCallStart
from serow.output.format import CallFormat
from serow.output.parser import OutputParser
from serow.output.probe import Prober, Render
from serow.output.thinking import ThinkingTags
from tests.support.engine import FakeEngine, Piece, Script

TEMPLATES = Path(__file__).parent / "templates"
FAMILIES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
_ENDS = (
    "<|im_end|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "<seed:eos>", "[e~[",
    "<turn|>", "<|END_OF_TURN_TOKEN|>", "<|assistant_end|>", "<SPECIAL_12>", "<end_of_turn>",
)  # fmt: skip

ADD = Tool(
    "add",
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "number"},
            "note": {"type": "string"},
            "deep": {"type": "object"},
        },
    },
    {},
)
NOW = Tool("now", {"type": "object", "properties": {}}, {})
TOOLS = (ADD, NOW)
THINK = ThinkingTags("<think>", "</think>")
ADDING = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'

# One call of `add` with a 37 and b 85, written by hand after what each family's model card or reference parser shows.
ONE_CALL = {
    "apertus": '<|tools_prefix|>[{"add": {"a": 37, "b": 85}}]<|tools_suffix|>',
    "command_r7b": '<|START_THINKING|>I add.<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "add", '
    '"parameters": {"a": 37, "b": 85}}\n]<|END_ACTION|>',
    "deepseek_r1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
    '{"a": 37, "b": 85}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek_v31": '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 37, "b": 85}'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v32": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="a" string="false">37'
    '</｜DSML｜parameter>\n<｜DSML｜parameter name="b" string="false">85</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    "</｜DSML｜function_calls>",
    "devstral": '[TOOL_CALLS]add[ARGS]{"a": 37, "b": 85}',
    "function_gemma": "<start_function_call>call:add{a:37,b:85}<end_function_call>",
    "functionary": '<function=add>{"a": 37, "b": 85}</function>',
    "gemma4": "<|tool_call>call:add{a:37,b:85}<tool_call|>",
    "glm": "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>37</arg_value>\n<arg_key>b</arg_key>\n<arg_value>85</arg_value>\n"
    "</tool_call>",
    "gpt_oss": '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 37, "b": 85}<|call|>',
    "granite33": '<|tool_call|>[{"arguments": {"a": 37, "b": 85}, "name": "add"}]',
    "granite4": '<tool_call>\n{"name": "add", "arguments": {"a": 37, "b": 85}}\n</tool_call>',
    "hermes": '<tool_call>\n{"name": "add", "arguments": {"a": 37, "b": 85}}\n</tool_call>',
    "kimi": '<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{"a": 37, "b": 85}'
    "<|tool_call_end|><|tool_calls_section_end|>",
    "lfm2": "<|tool_call_start|>[add(a=37, b=85)]<|tool_call_end|>",
    "llama3": '{"name": "add", "parameters": {"a": 37, "b": 85}}',
    "minimax": '<minimax:tool_call>\n<invoke name="add">\n<parameter name="a">37</parameter>\n'
    '<parameter name="b">85</parameter>\n</invoke>\n</minimax:tool_call>',
    "mistral_nemo": '[TOOL_CALLS][{"name": "add", "arguments": {"a": 37, "b": 85}, "id": "Q4yTz81Ab"}]',
    "mistral_small": '[TOOL_CALLS]add[CALL_ID]Q4yTz81Ab[ARGS]{"a": 37, "b": 85}',
    "nemotron_v2": '<TOOLCALL>[{"name": "add", "arguments": {"a": 37, "b": 85}}]</TOOLCALL>',
    "olmo3": "<function_calls>add(a=37, b=85)</function_calls>",
    "qwen3_coder": "<tool_call>\n<function=add>\n<parameter=a>\n37\n</parameter>\n<parameter=b>\n85\n</parameter>\n"
    "</function>\n</tool_call>",
    "seed_oss": "<seed:tool_call>\n<function=add>\n<parameter=a>37</parameter>\n<parameter=b>85</parameter>\n</function>\n"
    "</seed:tool_call>",
    "smollm3": '<tool_call>\n{"name": "add", "arguments": {"a": 37, "b": 85}}\n</tool_call>',
}


def template_of(family: str) -> str:
    return (TEMPLATES / f"{family}.jinja").read_text()


@cache
def compiled(text: str) -> Any:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(text)


def speaking(*scripts: Sequence[Piece] | Script, family: str = "hermes") -> FakeEngine:
    """An engine with the template of a family, which gets arguments as objects, as the real ones give them."""
    template = compiled(template_of(family))

    def render(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
        return str(template.render(messages=json.loads(json.dumps(messages), object_hook=_parsed), add_generation_prompt=True))

    return FakeEngine(*scripts, template=render)


def _parsed(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "arguments": json.loads(value["arguments"])} if isinstance(value.get("arguments"), str) else value


def renderer(text: str) -> Render:
    """A template as the probe sees it."""
    template = compiled(text)

    async def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        try:
            return str(template.render(messages=messages, tools=tools, add_generation_prompt=True))
        except Exception as error:  # whatever a template does wrong
            raise TemplateError(str(error)) from error

    return render


_prober = Prober()


async def format_of(family: str) -> CallFormat:
    text = template_of(family)
    return await _prober.format_of(text, renderer(text))


def written(family: str, calls: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """What the model writes for these calls, as the family's template writes it in the history."""
    template = compiled(template_of(family))
    user = [{"role": "user", "content": "Go"}]
    listed = [
        {"id": f"functions.{name}:{n}" if family == "kimi" else f"Id{n:07}", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    prompt = template.render(messages=user, tools=[{}], add_generation_prompt=True)
    whole = template.render(messages=[*user, {"role": "assistant", "content": "", "tool_calls": listed}], tools=[{}])
    text = str(whole[len(prompt) :]).rstrip()
    for end in _ENDS:
        text = text.removesuffix(end)
    return text


class Folded:
    """What all events of an answer add up to."""

    def __init__(self, events: Sequence[Event], warnings: Sequence[str]) -> None:
        self.events = events
        self.warnings = warnings
        deltas = [event for event in events if isinstance(event, Delta)]
        self.text = "".join(delta.text for delta in deltas)
        self.thinking = "".join(delta.thinking for delta in deltas)
        self.ends = [event for event in events if isinstance(event, ToolCallEnd)]
        self.calls = [(end.name, end.arguments) for end in self.ends]
        self.logprobs = [each for event in events if not isinstance(event, tuple) for each in getattr(event, "logprobs", [])]

    @property
    def streamed(self) -> dict[int, str]:
        """The arguments by index, joined of their pieces, of calls that ended."""
        pieces: dict[int, str] = {}
        for event in self.events:
            if isinstance(event, ToolCallStart):
                pieces[event.index] = ""
            elif isinstance(event, ToolCallArguments):
                pieces[event.index] += event.text
        return {end.index: pieces[end.index] for end in self.ends}


def parse(
    text: str | Sequence[str],
    format: CallFormat | None,
    *,
    size: int = 0,
    tools: Sequence[Tool] = TOOLS,
    tags: ThinkingTags | None = None,
    begun: str | None = None,
    is_cut: bool = False,
    between: Callable[[OutputParser], None] = lambda _: None,
) -> Folded:
    """Feed a text in pieces of `size` characters, whole with 0, or the pieces themselves."""
    parser = OutputParser(tags, begun, format, tools)
    events: list[Event] = []
    if isinstance(text, str):
        pieces: Sequence[str] = [text[start : start + size] for start in range(0, len(text), size)] if size else [text]
    else:
        pieces = text
    for piece in pieces:
        events += parser.feed(piece)
        between(parser)
    events += parser.finish(is_cut=is_cut)
    return Folded(events, parser.warnings)
