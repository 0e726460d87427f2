"""The flow of an Ask to a language model: what is checked before, then prompt, runs of the engine, events."""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from serow.constraints import Constraints, Verdict
from serow.engines.base import LARGEST_SEED, RANDOM_SEED, TextRunner
from serow.engines.remote.request import ignored
from serow.errors import Incapable, PromptTooLong, RequestError
from serow.inference.ask import Ask, Conversation, Image, Insert, Nothing, Raw, Single
from serow.inference.calling import Calling, Toolbox
from serow.inference.completion import Completion
from serow.inference.echo import read_back
from serow.inference.events import Done, Event, Prompted, Rendered, Usage
from serow.inference.plan import Plan
from serow.inference.task import DecodeImages, Task
from serow.options import PICTURE_OPTIONS
from serow.prompt.conversation import renderer_of
from serow.prompt.prompt import Prompt, Wanted, make, num_tokens, rendered
from serow.prompt.render import has_template, is_template_unused, supports_insert, tags_of, template_of, unplaced

SHIFTED = "the context was full: its oldest half was dropped while generating"
_MOST_CONTEXTS = 10  # num_predict -1 ends after as many times num_ctx, as in the peer
_UNTIL_FULL = -2  # num_predict: until the context is full
_PICTURE_FIELDS = ("width", "height", "steps")


async def prepare(task: Task, decode: DecodeImages, constraints: Constraints) -> Task:
    """Check what needs the model; decode pictures, compile the format. Raises RequestError."""
    ask = task.ask
    await task.rendering.ready(template_of(task.model, ask.prompt))
    _check(task)
    think = _think(task)
    given = _images(ask)
    images = await decode(given) if given else []
    constraint = await constraints.compile(ask.format, task.client)
    judge = partial(constraints.judge, constraint, task.client) if constraint else None
    tags = None if isinstance(ask.prompt, Raw) and ask.think is False else tags_of(task.model, ask.prompt)
    warnings = (*task.warnings, *_unused(task), *(constraint.warnings if constraint else ()))
    return replace(task, think=think, images=images, constraint=constraint, judge=judge, tags=tags, warnings=warnings)


async def answer(task: Task, runner: TextRunner, load_duration: int, toolbox: Toolbox) -> AsyncGenerator[Event, None]:
    """Yield the events of the answer; `load_duration` in ns. Closing the iterator stops the engine's work.

    Raises RequestError before the first piece, EngineError.
    """
    if task.model.is_remote and task.options.num_ctx > runner.num_ctx:
        text = f"num_ctx is {task.options.num_ctx}; the engine of this model holds {runner.num_ctx} tokens"
        raise RequestError(text, param="options")
    prompt = await make(_wanted(task), runner)
    if isinstance(task.ask.prompt, Raw) and task.ask.prompt.echo:
        yield await read_back(task.ask.prompt, prompt.tokens, runner, task.ask.top_logprobs if task.ask.logprobs else None)
    plan = replace(_plan(task, prompt), calling=await _calling(task, runner, toolbox))
    completion = Completion(runner, plan, task.timeline)
    task.timeline.send(prompt.num_sent)
    async with aclosing(completion.events()) as events:
        is_told = False
        async for event in events:
            if not is_told:
                yield _prompted(prompt, completion, load_duration)
                is_told = True
            yield event
        if not is_told:
            yield _prompted(prompt, completion, load_duration)
    task.timeline.finish(completion.usage)
    yield await _end(task, runner, plan, prompt, completion, load_duration)


async def _end(task: Task, runner: TextRunner, plan: Plan, prompt: Prompt, completion: Completion, load_duration: int) -> Done:
    """The last event: the answer's context, whether it fits its format, and what is to be said of it."""
    context = None
    if isinstance(task.ask.prompt, Single | Insert):
        context = prompt.tokens + await runner.tokenize(completion.text, add_special=False)
    judge = None if _is_called(plan, completion) else task.judge
    verdict = await judge(completion.response, completion.usage.done_reason == "length") if judge else None
    unfit = await plan.calling.unfit(completion.calls) if plan.calling else _not_called(task)
    told = (*task.warnings, *unfit, *_not_guessed(task, runner))
    return _done(replace(task, warnings=told), prompt, completion, load_duration, context, verdict)


def _not_guessed(task: Task, runner: TextRunner) -> list[str]:
    """What is to be said of guesses that were asked for from an engine that makes none."""
    wanted = [name for name in ("draft_num_predict", "num_draft") if (task.ask.options.get(name) or 0) > 0]
    if task.model.tokenizer is not None or runner.num_draft:
        return []
    why = task.model.draft.refusal if task.model.draft else ""
    reason = f"its draft can't guess for it: {why}" if why else "no check of an engine that guesses has seen it pay"
    return [f'option "{name}" was ignored: nothing is guessed of "{task.ask.model}", {reason}' for name in wanted]


def _not_called(task: Task) -> list[str]:
    """What is to be said of a call that is a must of a model whose store has its text passed through."""
    conversation = task.ask.prompt
    is_must = isinstance(conversation, Conversation) and conversation.tool_choice.mode == "required"
    parser = task.model.parser
    return [f'tool_choice asks for a call, but the parser "{parser}" of this model reads none'] if is_must else []


def _is_called(plan: Plan, completion: Completion) -> bool:
    """Whether calls stand where the answer would: alone, or as bound text, of which what is left need not fit by itself."""
    is_bound = plan.calling is not None and not plan.calling.format.openings
    return bool(completion.calls) and (is_bound or not completion.response)


async def render(task: Task, runner: TextRunner) -> Rendered:
    """The prompt as it would go to the model, for `_debug_render_only`."""
    text, image_count, warnings = await rendered(_wanted(task), runner)
    return Rendered(text, image_count, [*task.warnings, *warnings])


async def count(task: Task, runner: TextRunner) -> int:
    """How many tokens the prompt has, also one that is too long to be answered."""
    try:
        return await num_tokens(_wanted(task), runner)
    except PromptTooLong as error:
        return error.num_tokens


async def _calling(task: Task, runner: TextRunner, toolbox: Toolbox) -> Calling | None:
    """How the model calls the tools that it is given, None where there are none."""
    conversation = task.ask.prompt
    if not isinstance(conversation, Conversation) or not conversation.tools:
        return None
    template, _ = renderer_of(task.model, conversation, task.ask.think)
    return await toolbox.calling(task.model, conversation, template, runner, task.client)


def _wanted(task: Task) -> Wanted:
    return Wanted(task.model, task.ask, task.options, task.images, task.think, task.tags, task.rendering)


def _prompted(prompt: Prompt, completion: Completion, load_duration: int) -> Prompted:
    count = completion.prompt_eval_count or len(prompt.tokens)
    return Prompted(count, prompt.truncated, load_duration, completion.prompt_cached_count)


def _plan(task: Task, prompt: Prompt) -> Plan:
    return Plan(
        prompt=prompt.engine,
        options=task.options,
        num_predict=_num_predict(task, prompt),
        images=prompt.images,
        logprobs=task.ask.logprobs,
        top_logprobs=task.ask.top_logprobs,
        constraint=task.constraint,
        tags=None if prompt.continues else task.tags,
        begun=prompt.begun,
    )


def _num_predict(task: Task, prompt: Prompt) -> int:
    """Without shift an answer ends where the context does (GEN-16), and so does one under a grammar (GEN-12)."""
    asked = task.options.num_predict
    most = asked if asked >= 0 else _MOST_CONTEXTS * prompt.num_ctx
    if task.ask.shift and task.constraint is None and asked != _UNTIL_FULL:
        return most
    return min(most, max(0, prompt.num_ctx - prompt.num_sent))


def _after(task: Task, prompt: Prompt, eval_count: int, *, is_shifted: bool) -> Iterator[str]:
    """What is to be said of an answer that outgrew its context, or that nobody bounded and that was ended here."""
    if task.options.num_predict < 0 and eval_count >= _MOST_CONTEXTS * prompt.num_ctx:
        yield f"the answer was ended after {eval_count} tokens, ten times its context: num_predict sets another limit"
    if is_shifted:
        yield SHIFTED


def _done(
    task: Task,
    prompt: Prompt,
    completion: Completion,
    load_duration: int,
    context: list[int] | None,
    verdict: Verdict | None,
) -> Done:
    usage = completion.usage
    after = _after(task, prompt, usage.eval_count, is_shifted=usage.is_shifted)
    is_cut = usage.done_reason == "length"
    return Done(
        reason=usage.done_reason,
        usage=Usage(
            prompt_eval_count=usage.prompt_eval_count,
            prompt_cached_count=usage.prompt_cached_count,
            prompt_eval_duration=usage.prompt_eval_duration,
            eval_count=usage.eval_count,
            eval_duration=usage.eval_duration,
            thinking_count=completion.thinking_count,
        ),
        total_duration=time.perf_counter_ns() - task.started,
        load_duration=load_duration,
        context=context,
        truncated=prompt.truncated,
        stopping_word=usage.stopping_word if usage.stopping_word in task.options.stop else "",
        is_context_full=is_cut and usage.eval_count != task.options.num_predict,
        format_valid=False if verdict and not verdict.is_valid else None,
        warnings=[
            *task.warnings,
            *prompt.warnings,
            *completion.warnings,
            *after,
            *([verdict.warning] if verdict and verdict.warning else ()),
        ],
    )


def _think(task: Task) -> bool | str | None:
    """Absent on a thinking model is true (GEN-14)."""
    think = task.ask.think
    if "thinking" in task.model.capabilities:
        return True if think is None else think
    if think and task.ask.think_required:
        raise Incapable(task.ask.model, "thinking")
    return None if think else think


def _check(task: Task) -> None:
    name, model, prompt = task.ask.model, task.model, task.ask.prompt
    if model.renderer and not isinstance(prompt, Raw) and not has_template(model, prompt):
        text = f'"{name}" builds its prompts by the renderer "{model.renderer}", which this server has not'
        raise RequestError(text, hint="its file has no chat template: create a model from it with a TEMPLATE")
    if isinstance(prompt, Conversation | Nothing) and prompt.tools and "tools" not in model.capabilities:
        raise Incapable(name, "tools")
    if isinstance(prompt, Insert) and not supports_insert(model, prompt):
        raise Incapable(name, "insert")
    if _images(task.ask) and "vision" not in model.capabilities:
        raise Incapable(name, "images")
    for what, tokens in _given_tokens(task):
        beyond = next((token for token in tokens if not 0 <= token < model.vocab_size), None)
        if beyond is not None:
            text = f"{what} holds the token id {beyond}; the model knows ids from 0 to {model.vocab_size - 1}"
            raise RequestError(text, param=what, code="invalid_value")


def _images(ask: Ask) -> Sequence[str]:
    """The pictures that the prompt shows, base64 or data URIs."""
    match ask.prompt:
        case Single(images=images) | Raw(images=images):
            return images
        case Conversation(messages):
            return [part.data for message in messages for part in message.content if isinstance(part, Image)]
        case _:
            return ()


def _given_tokens(task: Task) -> Iterator[tuple[str, list[int]]]:
    """Token ids of the client's own, by what they are."""
    prompt = task.ask.prompt
    if isinstance(prompt, Single):
        yield "context", list(prompt.context)
    if isinstance(prompt, Raw) and not isinstance(prompt.prompt, str):
        yield "prompt", list(prompt.prompt)


def _unused_elsewhere(task: Task) -> Iterator[str]:
    """What vLLM, or another engine at an address, has no place for (REM-04)."""
    engine = "an engine at an address" if task.model.is_remote else "vLLM"
    given = [*task.ask.options, *(name for name in task.model.parameters if name not in task.ask.options)]
    unused = ignored(given, is_ours=task.model.is_vllm)
    yield from (f'option "{name}" was ignored: {engine} does not take it' for name in unused)
    if task.ask.keep_alive is not None and task.model.is_remote:
        yield f'"keep_alive" was ignored: {engine} is not unloaded from here'
    if "shift" in task.ask.given and task.ask.shift:
        yield f'"shift" was ignored: {engine} ends an answer where its context does'


def _unused(task: Task) -> list[str]:
    """What the Ask gives and a language model, or fill in the middle, has no use for."""
    ask, model = task.ask, task.model
    sizes = [name for name in _PICTURE_FIELDS if name in ask.given]
    unused = [f'"{name}" was ignored: "{ask.model}" is not an image model' for name in sizes]
    options = [name for name in PICTURE_OPTIONS if name in ask.options and name not in sizes]
    unused += [f'option "{name}" was ignored: "{ask.model}" is not an image model' for name in options]
    if not RANDOM_SEED <= task.options.seed <= LARGEST_SEED:
        unused.append('option "seed" is used modulo 2^32: the engine takes no larger one')
    unknown = [token for token, _ in task.options.logit_bias if isinstance(token, int) and not 0 <= token < model.vocab_size]
    if unknown:
        known = f"the model knows ids from 0 to {model.vocab_size - 1}"
        unused.append(f'option "logit_bias" was ignored for the token id {unknown[0]}: {known}')
    if ask.think and "thinking" not in model.capabilities:
        unused.append(f'"{ask.model}" does not support thinking: it answers without')
    if model.tokenizer is not None:
        unused += _unused_elsewhere(task)
    if isinstance(ask.prompt, Raw) and "suffix" in ask.given:
        unused.append('"suffix" was ignored: a raw prompt goes to the model as it is')
    if isinstance(ask.prompt, Insert):
        given = [name for name in ("context", "images", "system") if name in ask.given]
        unused += [f'"{name}" was ignored: fill in the middle does not use it' for name in given]
        if is_template_unused(ask.prompt):
            unused.append('"template" was ignored: it has no place for a suffix')
    lacks = (
        "has no template that could place it"
        if not has_template(model, ask.prompt)
        else "has a template without a place for it"
    )
    return [*unused, *(f'"{name}" was ignored: "{ask.model}" {lacks}' for name in unplaced(model, ask.prompt))]
