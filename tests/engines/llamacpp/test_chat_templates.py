"""Chat templates of model files, rendered in workers: as the engine renders them, whatever they do."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from serow.engines.llamacpp import chat_templates, rendering
from serow.engines.llamacpp.chat_templates import MEMORY, ChatTemplates
from serow.engines.llamacpp.runner import LlamaRunner
from serow.errors import MessagesRefused, TemplateError, Unavailable
from serow.settings import Settings
from serow.store.model import Model
from serow.store.tokenizer_file import that_renders, write
from serow.store.weights import describe
from serow.workers import child
from serow.workers.pool import Pool
from tests.engines.llamacpp.engines import load_request
from tests.gguf_files import with_chat_template
from tests.support.flow import model

DEADLINE = 30.0  # seconds
LONGEST = 2.5  # seconds until a hostile one is refused: the limit and a worker's start
HI = [{"role": "user", "content": "Hi"}]
WORK = "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a %}{% endfor %}{% endfor %}"
HOSTILE = {
    "it works for ever": WORK,
    "a text that doubles": "{% set n = namespace(x='aaaa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(x=[1, 2]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a macro that calls itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "two macros that call each other": "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a large range": "{% for i in range(1000000000) %}x{% endfor %}",
    "lines without end": "{% for i in range(100000) %}{% for j in range(100000) %}yyyyyyyyyyyyyyyy{% endfor %}{% endfor %}",
    "lists in lists": "{% set n = namespace(x=[]) %}{% for i in range(10000000) %}{% set n.x = [n.x] %}{% endfor %}",
}


@pytest.fixture(autouse=True)
def quick_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes too long is given up sooner than by a server, so that the tests are done sooner."""
    monkeypatch.setattr(chat_templates, "_CPU", 0.4)


@pytest_asyncio.fixture(scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with Pool() as pool:
        yield pool


@pytest_asyncio.fixture(scope="module")
async def templates(pool: Pool) -> AsyncIterator[ChatTemplates]:
    async with ChatTemplates(pool) as templates:
        yield templates


def model_with(template: str, zoo: Path, folder: Path) -> Model:
    """A model whose file has that template."""
    path = folder / "model.gguf"
    path.write_bytes(with_chat_template((zoo / "zoo-think.gguf").read_bytes(), template))
    return replace(model(), weights=path, chat_template=describe(path).chat_template)


def largest_worker() -> int:
    """Bytes of the largest process that was started here."""
    return max((each.memory_info().rss for each in psutil.Process().children() if each.is_running()), default=0)


async def test_the_text_is_what_the_engine_makes_of_the_same_messages(
    think: LlamaRunner, zoo: Path, templates: ChatTemplates
) -> None:
    own = replace(model(), weights=zoo / "zoo-think.gguf", chat_template=describe(zoo / "zoo-think.gguf").chat_template)
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    long: list[dict[str, Any]] = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
    ]
    conversations: list[list[dict[str, Any]]] = [list(HI), [{"role": "system", "content": "Be brief."}, *HI], long]
    for messages in conversations:
        for given in (tools[:0], tools):
            for kwargs in ({}, {"enable_thinking": False}):
                wanted = await think.apply_template(messages, kwargs, given)
                assert await templates.render(own, messages, kwargs, given) == wanted


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_template_is_refused_in_time_and_memory_and_a_good_one_serves_behind_it(
    templates: ChatTemplates, zoo: Path, tmp_path: Path, name: str
) -> None:
    hostile, begun = model_with(HOSTILE[name], zoo, tmp_path), time.perf_counter()
    rendering_it, most = asyncio.create_task(templates.render(hostile, HI, {}, client=name)), 0
    while not rendering_it.done():
        most = max(most, await asyncio.to_thread(largest_worker))
        await asyncio.wait({rendering_it}, timeout=0.02)
    assert time.perf_counter() - begun < LONGEST
    with pytest.raises(TemplateError, match=r"^the model's chat template "):
        await rendering_it
    assert most < MEMORY + child.LARGEST
    assert await templates.render(model_with("ok", zoo, tmp_path), HI, {}) == "ok".ljust(len(hostile.chat_template))


async def test_one_that_is_hostile_to_some_messages_only_costs_its_worker_and_serves_the_others(
    templates: ChatTemplates, zoo: Path, tmp_path: Path
) -> None:
    late = model_with(f"{{% if messages[0].content == 'attack' %}}{WORK}{{% endif %}}fine", zoo, tmp_path)
    with pytest.raises(TemplateError, match=r"^the model's chat template took too much time$"):
        await templates.render(late, [{"role": "user", "content": "attack"}], {}, client="attacker")
    assert (await templates.render(late, HI, {})).strip() == "fine"


async def test_a_text_that_is_too_long_is_refused(templates: ChatTemplates, zoo: Path, tmp_path: Path) -> None:
    wide = model_with("{{ messages[0].content * 90 if messages[0].content | length > 9 }}", zoo, tmp_path)
    repeated = model_with("{% for i in range(90) %}{{ messages[0].content }}{% endfor %}", zoo, tmp_path / "..")
    for each in (wide, repeated):
        with pytest.raises(TemplateError):
            await templates.render(each, [{"role": "user", "content": "x" * 1_000_000}], {}, client="a writer of much")


async def test_what_was_refused_is_not_tried_again_for_a_while(
    pool: Pool, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile, tried = model_with(WORK, zoo, tmp_path), []
    run = pool.run

    async def counted(function: Any, *args: Any, **options: Any) -> Any:
        tried.append(function)
        return await run(function, *args, **options)

    monkeypatch.setattr(pool, "run", counted)
    async with ChatTemplates(pool) as templates:
        for seconds, count in ((300.0, 1), (0.0, 2)):
            monkeypatch.setattr(chat_templates, "_REFUSED_FOR", seconds)
            for _ in range(2):
                with pytest.raises(TemplateError, match="took too much time when it was tried"):
                    await templates.render(hostile, HI, {}, client="one who tries again")
            assert tried.count(rendering.prepare) == count + (seconds == 0.0)
            assert rendering.render not in tried


async def test_a_machine_that_is_too_busy_says_nothing_of_a_template(
    zoo: Path, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = model_with("{% for a in range(3000) %}{% set c = a %}{% endfor %}fine", zoo, tmp_path)
    async with ChatTemplates(pool) as templates:
        monkeypatch.setattr(chat_templates, "_SLOWNESS", 0.001)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await templates.render(good, HI, {})
        monkeypatch.undo()
        assert (await templates.render(good, HI, {})).strip() == "fine"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% do x %}", "can't be read by the engine: Unknown statement: do"),
        ("{{ raise_exception('no system') }}", "does not accept the messages: no system"),
    ],
)
async def test_a_template_s_own_words_are_told(
    templates: ChatTemplates, zoo: Path, tmp_path: Path, template: str, words: str
) -> None:
    with pytest.raises(TemplateError, match=words):
        await templates.render(model_with(template, zoo, tmp_path), HI, {})


async def test_one_that_only_takes_a_conversation_of_clients_renders_that(
    templates: ChatTemplates, zoo: Path, tmp_path: Path
) -> None:
    strict = "{% if messages[0].content != 'Hi' %}{{ raise_exception('who') }}{% endif %}[{{ messages[0].content }}]"
    own = model_with(strict, zoo, tmp_path)
    assert (await templates.render(own, HI, {})).strip() == "[Hi]"
    with pytest.raises(MessagesRefused, match="who"):
        await templates.render(own, [{"role": "user", "content": "x"}], {})


async def test_the_engine_never_meets_the_template(templates: ChatTemplates, zoo: Path, tmp_path: Path) -> None:
    hostile = model_with(WORK, zoo, tmp_path)
    request = load_request(hostile.weights)
    runner = LlamaRunner(replace(request, model=hostile), Settings(load_timeout=DEADLINE), None, templates)
    await runner.load()
    try:
        assert await runner.tokenize("Hi", add_special=False)
        with pytest.raises(TemplateError):
            await runner.apply_template(HI, {}, client="one with an engine")
        assert runner.is_alive
    finally:
        await runner.close()


@pytest.mark.parametrize("bos", [0, 7, 127, 128, 700, 767, 5000])
async def test_a_file_that_renders_shows_the_tokens_that_a_text_begins_and_ends_with(
    zoo: Path, tmp_path: Path, bos: int
) -> None:
    data = with_chat_template((zoo / "zoo-think.gguf").read_bytes(), "[{{ bos_token }}|{{ eos_token }}]")
    at = data.index(b"tokenizer.ggml.bos_token_id") + len(b"tokenizer.ggml.bos_token_id") + 4
    source = tmp_path / "source.gguf"
    source.write_bytes(data[:at] + struct.pack("<I", bos) + data[at + 4 :])
    template = describe(source).chat_template
    (tmp_path / "small.gguf").write_bytes(that_renders(source))
    write(source, tmp_path / "whole.gguf")
    body = {"messages": HI, "chat_template_kwargs": {}}
    texts = [rendering.render(str(tmp_path / f"{name}.gguf"), template, dict(body)).prompt for name in ("small", "whole")]
    assert texts[0] == texts[1] and texts[0].strip() != "[|]"
    assert (tmp_path / "small.gguf").stat().st_size < source.stat().st_size / 4
