"""The engine's runs around calls: where they stop, what holds them, what is told."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from serow.constraints import Constraint, Constraints, Shape
from serow.engines.base import CompletionRequest
from serow.inference.ask import Tool, ToolChoice
from serow.inference.calling import Calling
from serow.inference.completion import Completion
from serow.inference.events import Event
from serow.inference.plan import Plan
from serow.inference.timeline import Timeline
from serow.options import Options
from serow.output.format import CallFormat
from serow.output.known import BARE, FIREFUNCTION, HERMES, KIMI, LFM, LLAMA, MISTRAL, QWEN_CODER
from serow.output.thinking import ThinkingTags
from tests.output.families import TOOLS, Folded
from tests.support.engine import FakeEngine, Piece, Script

THINK = ThinkingTags("<think>", "</think>")
BODY = ['{"name": "add", ', '"arguments": {"a": 1}}']
FORMAT = Constraint("FORMAT")


class Grammars:
    """Grammars that say what they are for."""

    async def call_of(self, tools: Sequence[tuple[str, dict[str, Any]]], shape: Shape, client: str = "") -> Constraint:
        return Constraint(f"CALL {' '.join(name for name, _ in tools)}")

    async def arguments_of(self, parameters: dict[str, Any], client: str = "") -> Constraint:
        return Constraint("ARGUMENTS")


def calling(format: CallFormat = HERMES, *, tools: Sequence[Tool] = TOOLS, **choice: Any) -> Calling:
    return Calling(format, tools, ToolChoice(**choice), cast(Constraints, Grammars()))


class Said:
    """What one answer told, and what the engine was asked."""

    def __init__(self, engine: FakeEngine, completion: Completion, events: list[Event]) -> None:
        self.folded = Folded(events, completion.warnings)
        self.usage = completion.usage
        self.warnings = completion.warnings
        self.text = completion.text
        self.grammars = [request.grammar for request in engine.requests]
        self.stops = [request.options.stop for request in engine.requests]
        self.prompts = engine.prompts


async def say(
    *scripts: Sequence[Piece] | Script,
    calls: Calling | None = None,
    num_predict: int = -1,
    stop: tuple[str, ...] = (),
    tags: ThinkingTags | None = None,
    constraint: Constraint | None = None,
    logprobs: bool = False,
) -> Said:
    engine = FakeEngine(*scripts)
    plan = Plan(
        prompt=[ord(each) for each in "Q:"],
        options=Options(stop=stop),
        num_predict=num_predict,
        logprobs=logprobs,
        tags=tags,
        constraint=constraint,
        calling=calls or calling(),
    )
    completion = Completion(engine, plan, Timeline())
    events = [event async for event in completion.events()]
    return Said(engine, completion, events)


@pytest.mark.req("TOOL-07")
async def test_behind_its_opening_a_call_is_held_to_the_tools() -> None:
    said = await say(["Hi ", "<tool_call>", "free"], BODY, ["\n</tool_call>"])
    assert said.folded.calls == [("add", '{"a": 1}')] and said.folded.text == "Hi"
    assert said.grammars == ["", "CALL add now", ""]
    assert said.stops == [("<tool_call>",), (), ("<tool_call>",)]
    assert said.prompts[1] == "Q:Hi <tool_call>"
    assert said.prompts[2] == 'Q:Hi <tool_call>{"name": "add", "arguments": {"a": 1}}'
    assert (said.usage.done_reason, said.usage.eval_count) == ("stop", 2 + 2 + 2)


@pytest.mark.req("TOOL-07")
async def test_several_calls_are_held_each() -> None:
    said = await say(["<tool_call>"], BODY, ["</tool_call>", "<tool_call>"], BODY, ["</tool_call>"])
    assert len(said.folded.calls) == 2 and said.grammars == ["", "CALL add now", "", "CALL add now", ""]


@pytest.mark.req("TOOL-07")
async def test_one_call_is_enough_where_none_may_stand_beside_it() -> None:
    said = await say(["<tool_call>"], BODY, ["</tool_call>", "<tool_call>"], calls=calling(parallel=False))
    assert len(said.folded.calls) == 1 and len(said.grammars) == 2
    assert said.usage.done_reason == "stop" and said.warnings == []
    unbound = await say(["<|tool_call_start|>[", "add(a=1)", ", now()", "]"], calls=calling(LFM, parallel=False))
    assert unbound.folded.calls == [("add", '{"a": 1}')] and unbound.usage.eval_count == 2


@pytest.mark.req("TOOL-07")
async def test_a_call_that_is_a_must_begins_with_its_opening() -> None:
    said = await say(BODY, ["</tool_call>"], calls=calling(mode="required"))
    assert said.prompts[0] == "Q:<tool_call>\n" and said.grammars[0] == "CALL add now"
    assert len(said.folded.calls) == 1 and said.folded.text == ""
    bare = await say(["\n", *BODY], calls=calling(BARE, mode="required", parallel=False))
    assert bare.prompts == ["Q:"] and bare.grammars == ["CALL add now"] and len(bare.folded.calls) == 1


@pytest.mark.req("TOOL-07")
async def test_a_must_whose_arguments_can_not_be_held_has_a_name_that_is_and_is_told_when_it_fails() -> None:
    said = await say(["add"], ["1</parameter></function>"], calls=calling(QWEN_CODER, mode="required"))
    assert said.prompts == ["Q:<tool_call>\n<function=", "Q:<tool_call>\n<function=add>"]
    assert said.grammars[0].endswith('start: "add" | "now"') and said.warnings[-1].startswith("tool_choice")
    said = await say(["add"], ["\n<parameter=a>1</parameter></function>"], calls=calling(QWEN_CODER, mode="required"))
    assert said.folded.calls == [("add", '{"a": 1}')] and said.warnings == []
    python = await say(["now"], [")]"], calls=calling(LFM, mode="required"))
    assert python.prompts[1] == "Q:<|tool_call_start|>[now(" and python.folded.calls == [("now", "{}")]


@pytest.mark.req("TOOL-07")
async def test_a_must_behind_an_opening_of_words_is_a_held_object() -> None:
    said = await say(BODY, ["]"], calls=calling(FIREFUNCTION, mode="required"))
    assert said.prompts[0] == "Q:functools[" and said.grammars == ["CALL add now", ""]
    assert said.folded.calls == [("add", '{"a": 1}')] and said.folded.text == "" and said.warnings == []


@pytest.mark.req("TOOL-07")
@pytest.mark.parametrize("format", [BARE, HERMES, LLAMA])
async def test_a_call_is_not_made_to_have_an_id_that_its_format_does_not_show(format: CallFormat) -> None:
    shapes = []

    class Noting(Grammars):
        async def call_of(self, tools: Any, shape: Shape, client: str = "") -> Constraint:
            shapes.append(shape)
            return await super().call_of(tools, shape, client)

    calls = Calling(format, TOOLS, ToolChoice(mode="required"), cast(Constraints, Noting()))
    await say(BODY, [""], calls=calls)
    assert [shape.id for shape in shapes] == [""]


@pytest.mark.req("TOOL-07")
async def test_a_name_before_the_arguments_is_held_and_then_the_tools_own_schema() -> None:
    said = await say(["[TOOL_CALLS]"], ["add"], ['{"a": 1}'], [""], calls=calling(MISTRAL))
    assert said.folded.calls == [("add", '{"a": 1}')]
    assert said.grammars[1].endswith('start: "add" | "now"') and said.grammars[2:] == ["ARGUMENTS", ""]
    assert said.prompts[2] == "Q:[TOOL_CALLS]add[ARGS]"
    kimi = await say(["<|tool_calls_section_begin|>"], ["functions.add:0"], ['{"a": 1}'], [""], calls=calling(KIMI))
    assert kimi.folded.calls == [("add", '{"a": 1}')] and kimi.folded.ends[0].id == "functions.add:0"
    assert kimi.prompts[1] == "Q:<|tool_calls_section_begin|><|tool_call_begin|>"


@pytest.mark.req("TOOL-05")
async def test_a_call_that_num_predict_cuts_is_text() -> None:
    said = await say(["<tool_call>"], ['{"name": "add", ', '"arguments": {', "}}"], num_predict=3)
    assert said.folded.calls == [] and said.folded.text == '<tool_call>{"name": "add", "arguments": {'
    assert (said.usage.done_reason, said.usage.eval_count) == ("length", 3)
    assert said.warnings == ["a tool call was cut off; its text is part of the content"]


@pytest.mark.req("TOOL-05", "GEN-06")
async def test_a_limit_right_behind_an_opening_is_kept() -> None:
    said = await say(["<tool_call>"], BODY, num_predict=1)
    assert said.folded.calls == [] and said.folded.text == "<tool_call>" and len(said.grammars) == 1
    assert (said.usage.done_reason, said.usage.eval_count) == ("length", 1)


@pytest.mark.req("TOOL-05")
async def test_a_limit_right_behind_a_call_leaves_it_whole() -> None:
    said = await say(["<tool_call>"], BODY, num_predict=3)
    assert len(said.folded.calls) == 1 and said.usage.done_reason == "length" and len(said.grammars) == 2


@pytest.mark.req("TOOL-08")
async def test_with_a_format_the_model_may_call_or_answer() -> None:
    called = await say(["\n", "<tool_call>"], BODY, ["</tool_call>"], constraint=FORMAT)
    assert called.grammars == ["", "CALL add now", ""] and len(called.folded.calls) == 1
    answered = await say(["Sure"], ["42"], constraint=FORMAT)
    assert answered.grammars == ["", "FORMAT"] and answered.folded.text == "42"
    assert answered.prompts == ["Q:", "Q:"] and answered.usage.eval_count == 2
    unmarked = await say(BODY, constraint=FORMAT, calls=calling(BARE))
    assert unmarked.grammars == ["FORMAT"] and len(unmarked.folded.calls) == 1


@pytest.mark.req("TOOL-08")
async def test_thinking_comes_first_and_a_call_ends_it() -> None:
    said = await say(["<think>", "Hm ", "<tool_call>"], BODY, ["</tool_call>"], tags=THINK)
    assert (said.folded.thinking, said.folded.text, len(said.folded.calls)) == ("Hm ", "", 1)
    behind = await say(["<think>", "Hm", "</think>", "\n\n", "<tool_call>"], BODY, ["</tool_call>"], tags=THINK)
    assert (behind.folded.thinking, len(behind.folded.calls), behind.folded.text) == ("Hm", 1, "")


@pytest.mark.req("TOOL-08")
async def test_thinking_a_format_and_a_must_go_together() -> None:
    said = await say(
        ["<think>", "Hm", "</think>"], BODY, ["</tool_call>"], tags=THINK, constraint=FORMAT, calls=calling(mode="required")
    )
    assert (said.folded.thinking, len(said.folded.calls)) == ("Hm", 1)
    assert said.prompts[1] == "Q:<think>Hm</think>\n\n<tool_call>\n" and said.grammars[1] == "CALL add now"
    chosen = await say(["<think>", "Hm", "</think>"], ["x"], ["42"], tags=THINK, constraint=FORMAT)
    assert (chosen.folded.thinking, chosen.folded.text) == ("Hm", "42") and chosen.grammars == ["", "", "FORMAT"]
    at_once = await say(["Sure"], BODY, ["</tool_call>"], tags=THINK, calls=calling(mode="required"))
    assert (at_once.folded.text, len(at_once.folded.calls)) == ("", 1)


@pytest.mark.req("CHAT-13")
async def test_log_probabilities_of_all_runs_are_told() -> None:
    said = await say(["Hi", "<tool_call>"], BODY, ["</tool_call>"], logprobs=True)
    assert [each.token for each in said.folded.logprobs] == ["Hi", "<tool_call>", *BODY, "</tool_call>"]
    with_format = await say(["\n", "<tool_call>"], BODY, ["</tool_call>"], logprobs=True, constraint=FORMAT)
    assert [each.token for each in with_format.folded.logprobs] == ["\n", "<tool_call>", *BODY, "</tool_call>"]


@pytest.mark.req("TOOL-05")
async def test_the_clients_stop_string_ends_all() -> None:
    said = await say(["<tool_call>"], ['{"name": "add", "arguments": {"note": "', "STOP", '"}}'], stop=("STOP",))
    assert said.folded.calls == [] and said.folded.text.startswith("<tool_call>") and len(said.grammars) == 2
    said = await say(["Hi", "<tool_call>", "x"], stop=("<tool_call>",))
    assert said.folded.text == "Hi" and len(said.grammars) == 1


async def test_marks_of_calls_stay_visible() -> None:
    engine = FakeEngine(["x"])
    plan = Plan(prompt=[1], options=Options(), num_predict=5, calling=calling())
    async for _ in Completion(engine, plan, Timeline()).events():
        pass
    request: CompletionRequest = engine.requests[0]
    assert {"<tool_call>", "</tool_call>"} <= set(request.visible)
