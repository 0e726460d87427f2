"""Formats that no probe finds: what templates do not show, or models do otherwise; and the names of the peer's parsers."""

from dataclasses import dataclass, replace

from serow.output.format import CallFormat, Kind
from serow.output.thinking import CHANNELS, ThinkingTags

HERMES = CallFormat(Kind.OBJECT, ("<tool_call>",), ("</tool_call>",), written="<tool_call>\n")
LLAMA = CallFormat(Kind.OBJECT, closings=(";", ",", "<|eom_id|>"), hidden=("<|python_tag|>",), arguments="parameters")
GRANITE = CallFormat(Kind.OBJECT, ("<|tool_call|>",), written="<|tool_call|>[", is_list=True)
FIREFUNCTION = CallFormat(Kind.OBJECT, ("functools",), written="functools[", is_list=True)
COHERE = CallFormat(
    Kind.OBJECT,
    ("<|START_ACTION|>",),
    ("<|END_ACTION|>",),
    written="<|START_ACTION|>[",
    is_list=True,
    name="tool_name",
    arguments="parameters",
    id="tool_call_id",
    hidden=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
)
MISTRAL = CallFormat(
    Kind.NAMED, ("[TOOL_CALLS]",), written="[TOOL_CALLS]", between=("[CALL_ID]\0[ARGS]", "[ARGS]", "")
)  # the last: JSON right behind the name
DEEPSEEK = CallFormat(
    Kind.NAMED,
    ("<｜tool▁calls▁begin｜>",),
    ("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    lead="<｜tool▁call▁begin｜>",
    written="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    between=("<｜tool▁sep｜>",),
)
COGITO = replace(
    DEEPSEEK,
    lead="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    written="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    between=("```json",),
    closings=("```", *DEEPSEEK.closings),
)
KIMI = CallFormat(
    Kind.NAMED,
    ("<|tool_calls_section_begin|>",),
    ("<|tool_call_end|>", "<|tool_calls_section_end|>"),
    lead="<|tool_call_begin|>",
    written="<|tool_calls_section_begin|><|tool_call_begin|>",
    between=("<|tool_call_argument_begin|>",),
    is_name_in_id=True,
)
_TURNS = ("", "<|start|>assistant", "<|end|><|start|>assistant")
HARMONY = CallFormat(
    Kind.NAMED,
    tuple(
        f"{turn}{channel}"
        for turn in _TURNS
        for channel in ("<|channel|>commentary to=functions.", "<|channel|>analysis to=functions.", " to=functions.")
    ),
    ("<|call|>",),
    hidden=(
        *(f"{turn}<|channel|>commentary<|message|>" for turn in _TURNS),
        *(f"{turn}<|channel|>final<|message|>" for turn in _TURNS),
    ),
    written="<|channel|>commentary to=functions.",
    between=(
        "<|constrain|>json<|message|>",
        "<|channel|>commentary json<|message|>",
        "<|channel|>commentary <|constrain|>json<|message|>",
        "<|channel|>commentary<|message|>",
        "json<|message|>",
        "code<|message|>",
        "<|message|>",
    ),
)
QWEN_CODER = CallFormat(
    Kind.TAGGED,
    ("<tool_call>",),
    ("</tool_call>",),
    lead="<function=",
    written="<tool_call>\n<function=",
    name_close=">",
    key_open="<parameter=",
    key_close=(">",),
    value_close="</parameter>",
    call_close="</function>",
)
GLM = CallFormat(
    Kind.TAGGED,
    ("<tool_call>",),
    ("</tool_call>", "<|observation|>"),
    written="<tool_call>",
    key_open="<arg_key>",
    key_close=("</arg_key>",),
    value_open="<arg_value>",
    value_close="</arg_value>",
    call_close="</tool_call>",
)
GLIMMER = CallFormat(
    Kind.TAGGED,
    ("<atem:function_calls>",),
    ("</atem:function_calls>", "<|eom|>"),
    lead='<atem:invoke name="',
    written='<atem:function_calls>\n<atem:invoke name="',
    name_close='">',
    key_open='<atem:parameter name="',
    key_close=('">',),
    value_close="</atem:parameter>",
    call_close="</atem:invoke>",
)
LFM = CallFormat(Kind.PYTHONIC, ("<|tool_call_start|>",), ("<|tool_call_end|>",), written="<|tool_call_start|>[", is_list=True)
OLMO = CallFormat(Kind.PYTHONIC, ("<function_calls>",), ("</function_calls>",), written="<function_calls>\n", is_list=True)
GEMMA = CallFormat(
    Kind.PYTHONIC,
    ("<|tool_call>call:",),
    ("<tool_call|>", "<|tool_response>"),
    written="<|tool_call>call:",
    brackets="{}",
    quote='<|"|>',
)
FUNCTION_GEMMA = CallFormat(
    Kind.PYTHONIC,
    ("<start_function_call>call:",),
    ("<end_function_call>", "<start_function_response>"),
    written="<start_function_call>call:",
    brackets="{}",
    quote="<escape>",
)
BARE = CallFormat(Kind.OBJECT)

SURE = (  # a text that only this family's template has; its probe would mislead
    ("to=functions.", HARMONY),
    ("<|channel|>analysis<|message|>", HARMONY),
    ("<|tool_call_argument_begin|>", KIMI),
    ("<atem:invoke", GLIMMER),
    ('"parameters": dictionary of argument name', LLAMA),
    ("<|tool_call_start|>", LFM),
)
FALLBACKS = (  # where the probe finds nothing; the last serves every template
    ("<|tool_call|>", GRANITE),
    ("functools", FIREFUNCTION),
    ("<arg_key>", GLM),
    ("<function=", QWEN_CODER),
    ("<tool_call>", HERMES),
    ("xml_tools", HERMES),  # SmolLM3
    ("[TOOL_CALLS]", MISTRAL),
    ("+ '```json' +", COGITO),  # DeepSeek R1
    ("<｜tool▁sep｜>", DEEPSEEK),
    ("<|tool_list_start|>", LFM),
    ("List of tools: [", LFM),  # LFM2.5
    ("<function_calls>", OLMO),
    ("", BARE),
)


def format_known(template: str, rows: tuple[tuple[str, CallFormat], ...]) -> CallFormat | None:
    """The format of the first row whose text the template has."""
    return next((format for text, format in rows if text in template), None)


@dataclass(frozen=True, slots=True)
class Family:
    """What a parser of the peer reads: calls (None: nothing at all) and thinking."""

    format: CallFormat | None
    tags: ThinkingTags | None = None


_THINK = ThinkingTags("<think>", "</think>")
_GEMMA_THOUGHT = ThinkingTags("<|channel>thought", "<channel|>")
FAMILIES = {
    "cogito": Family(COGITO, _THINK),
    "cohere": Family(COHERE, ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>")),
    "deepseek3": Family(DEEPSEEK, _THINK),
    "functiongemma": Family(FUNCTION_GEMMA),
    "gemma4": Family(GEMMA, _GEMMA_THOUGHT),
    "gemma4-no-thinking": Family(GEMMA),
    "glimmer": Family(
        GLIMMER,
        ThinkingTags("to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>", "to=user<|message|>"),
    ),
    "glm-4.7": Family(GLM, _THINK),
    "glm-ocr": Family(GLM, _THINK),
    "harmony": Family(HARMONY, CHANNELS),
    "laguna": Family(GLM, _THINK),
    "lfm2": Family(LFM),
    "lfm2-thinking": Family(LFM, _THINK),
    "ministral": Family(MISTRAL),
    "nemotron-3-nano": Family(QWEN_CODER, _THINK),
    "nemotron-3.5-nano": Family(QWEN_CODER, _THINK),
    "olmo3": Family(OLMO),
    "olmo3-think": Family(OLMO, _THINK),
    "ornith": Family(QWEN_CODER, _THINK),
    "passthrough": Family(None),
    "poolside-v1": Family(GLM, _THINK),
    "qwen3": Family(HERMES),
    "qwen3-coder": Family(QWEN_CODER),
    "qwen3-thinking": Family(HERMES, _THINK),
    "qwen3-vl-instruct": Family(HERMES),
    "qwen3-vl-thinking": Family(HERMES, _THINK),
    "qwen3.5": Family(QWEN_CODER, _THINK),
}
