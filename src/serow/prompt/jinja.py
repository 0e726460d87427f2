"""The GGUF's own Jinja template, which llama.cpp's interpreter runs: messages and tools as it gets them."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from serow.engines.base import TextRunner
from serow.inference.ask import Conversation, Tool
from serow.output.thinking import ThinkingTags
from serow.prompt.turns import Turn, check_end

_ANSWER = "serow-placeholder-answer"
_NEXT = Turn("user", "serow-placeholder-question")
_BEHIND_THINKING = "\n\n"
_HELD = "serow-placeholder-arguments-"
_STAND_IN = re.compile(r'\{\s*"' + _HELD + r'(\d+)"\s*:\s*0\s*\}')
_SPARED = "serow-placeholder-number-"
_NUMBER = re.compile(rf'"{_SPARED}(\d{{1,7}})-"')
_FEW, _SHORT = 200, 16 << 10  # messages, and characters of their calls, that are made ready within a millisecond
_ASKS_FOR_TEXT = re.compile(r"arguments\s+is\s+(?:not\s+)?(?:string|mapping)")
_DIGITS = 19  # of the largest numbers of 64 bits


def template_kwargs(think: bool | str | None) -> dict[str, Any]:
    """What a template is told of thinking."""
    if think is None:
        return {}
    return {"enable_thinking": bool(think), **({"reasoning_effort": think} if isinstance(think, str) else {})}


async def render(
    conversation: Conversation,
    turns: Sequence[Turn],
    think: bool | str | None,
    runner: TextRunner,
    tools: Sequence[Tool] = (),
    *,
    takes_text: bool = False,
    client: str = "",
) -> str:
    """The text up to the head of the answer, for a client; an open answer at the end is left out, `continued` writes it.

    A template that `takes_text` shows the arguments of calls byte for byte. Raises TemplateError, RequestError.
    """
    check_end(turns)
    kwargs = {**template_kwargs(think), **conversation.template_kwargs}
    definitions = [tool.definition for tool in tools]

    async def apply(shown: Sequence[Turn]) -> str:
        if takes_text and any(turn.tool_calls for turn in shown):
            written = WrittenArguments()
            messages = await _messages_of(shown, written.hold)
            text = written.put_back(await runner.apply_template(messages, kwargs, definitions, client))
            if text is not None:
                return text
        large = LargeNumbers()
        return large.put_back(await runner.apply_template(await _messages_of(shown, large.spare), kwargs, definitions, client))

    if turns and turns[-1].is_open:
        return await apply(turns[:-1])
    if turns and turns[-1].role == "assistant":
        return await _behind_call(turns, apply)
    return await apply(turns)


async def _behind_call(turns: Sequence[Turn], apply: Callable[[Sequence[Turn]], Awaitable[str]]) -> str:
    """A new turn behind a call that nobody has answered: engines take a last message of the assistant for one to continue.

    With a question behind them, the text with the call and the one without it end alike. What the head of an answer
    replaces is the question; where the two part is found by comparing.
    """
    with_call, without_call = await apply([*turns, _NEXT]), await apply([*turns[:-1], _NEXT])
    head = await apply(turns[:-1])
    parting = next((n for n, (a, b) in enumerate(zip(without_call, head, strict=False)) if a != b), len(head))
    return with_call[: len(with_call) - (len(without_call) - parting)] + head[parting:]


def continued(head: str, turn: Turn, think: bool | str | None, tags: ThinkingTags | None) -> tuple[str, str | None]:
    """The text with an open answer behind it, and what of it is thinking that goes on (None: nothing)."""
    is_open = tags is not None and tags.begun(head, raw=False) is not None
    if tags is None or think is False or not turn.thinking:
        closing = tags.closing + _BEHIND_THINKING if tags and is_open and turn.content else ""
        return head + closing + turn.content, None
    thinking = ("" if is_open else tags.opening + "\n") + turn.thinking
    if not turn.content:
        return head + thinking, turn.thinking
    return head + thinking + tags.closing + _BEHIND_THINKING + turn.content, None


async def next_turn(system: str, prompt: str, think: bool | str | None, runner: TextRunner, client: str = "") -> str:
    """What follows an earlier conversation: the end of its last answer, then the new turn.

    A Jinja template renders whole conversations only, and some open every one with a default system prompt. So a
    conversation with a placeholder for the answer is rendered, and what stands behind the placeholder is the next turn.
    """
    past = [{"role": "user", "content": "."}, {"role": "assistant", "content": _ANSWER}]
    turn = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt}]
    rendered = await runner.apply_template([*past, *turn], template_kwargs(think), (), client)
    _, found, following = rendered.partition(_ANSWER)
    return following if found else await runner.apply_template(turn, template_kwargs(think), (), client)


def takes_text(template: str) -> bool:
    """Whether a template asks if the arguments of a call are text already, and then shows them as they are."""
    return _ASKS_FOR_TEXT.search(template) is not None


class WrittenArguments:
    """The arguments of calls as they were written; an object stands for each while a template runs, which engines want."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def hold(self, arguments: str) -> str:
        """What stands for the arguments."""
        self._texts.append(arguments)
        return json.dumps({f"{_HELD}{len(self._texts) - 1}": 0})

    def put_back(self, text: str) -> str | None:
        """The rendered text with all arguments in their places; None where the template took one apart."""
        found, count = _STAND_IN.subn(lambda match: self._texts[int(match[1])], text)
        return found if count == len(self._texts) and _HELD not in _STAND_IN.sub("", text) else None


class LargeNumbers:
    """Whole numbers beyond 64 bits, for which texts stand while a template runs: engines wrap them around."""

    def __init__(self) -> None:
        self._numbers: list[str] = []

    def spare(self, arguments: str) -> str:
        """The JSON text with texts for them. What is no JSON, as models write it at times, becomes an object that holds it."""
        before = len(self._numbers)
        try:
            value = json.loads(arguments, parse_int=self._spared)
        except (ValueError, RecursionError):
            return json.dumps({"arguments": arguments}, ensure_ascii=False)
        return arguments if len(self._numbers) == before else json.dumps(value, ensure_ascii=False)

    def _spared(self, digits: str) -> int | str:
        if len(digits) < _DIGITS or -(2**63) <= int(digits) < 2**63:
            return int(digits)
        self._numbers.append(digits)
        return f"{_SPARED}{len(self._numbers) - 1}-"

    def put_back(self, text: str) -> str:
        """The rendered text with the numbers in their places."""
        return _NUMBER.sub(lambda match: self._numbers[int(match[1])], text) if self._numbers else text


async def _messages_of(turns: Sequence[Turn], shown: Callable[[str], str]) -> list[dict[str, Any]]:
    """`messages_of`, beside the event loop where it takes more than a millisecond."""
    if len(turns) <= _FEW and sum(len(call.arguments) for turn in turns for call in turn.tool_calls) <= _SHORT:
        return messages_of(turns, shown)
    return await asyncio.to_thread(messages_of, turns, shown)


def messages_of(turns: Sequence[Turn], shown: Callable[[str], str] = str) -> list[dict[str, Any]]:
    """Messages as engines take them, OpenAI's shape; calls without an id get one, which some templates want.

    `shown` gives the arguments of a call as the template is to see them.
    """
    messages, waiting = [], deque[str]()
    for number, turn in enumerate(turns):
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.thinking:
            message["reasoning_content"] = turn.thinking
        if turn.tool_calls:
            ids = [call.id or f"call{number % 1000:03}{index % 100:02}" for index, call in enumerate(turn.tool_calls)]
            waiting = deque(id for call, id in zip(turn.tool_calls, ids, strict=True) if not call.id)
            message["tool_calls"] = [
                _call(call.name, shown(call.arguments), id) for call, id in zip(turn.tool_calls, ids, strict=True)
            ]
        if turn.role == "tool":
            id = turn.tool_call_id or (waiting.popleft() if waiting else "")
            message |= {"name": turn.tool_name} if turn.tool_name else {}
            message |= {"tool_call_id": id} if id else {}
        messages.append(message)
    return messages


def _call(name: str, arguments: str, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
