"""Templates that broke other servers, tried on ours: of requests and of model files."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fault.attacked import ask, generate, is_unharmed, upload
from tests.gguf_files import with_chat_template
from tests.support.server import Running


@pytest.mark.parametrize(
    "template", ["{{", "{{ .Prompt", "{{ if }}", "{{ end }}", '{{ template "x" }}', "{{ " * 10_000, "\0{{ x }}"]
)
async def test_a_malformed_template_is_the_requests_fault(server: Running, template: str) -> None:
    create_body = {"model": "templated", "from": "zoo-think", "template": template, "stream": False}
    statuses = [(await ask(server, "/api/create", create_body))[0], (await generate(server, template=template))[0]]
    assert statuses[1] == 400 and statuses[0] in (200, 400)
    if statuses[0] == 200:
        assert (await generate(server, model="templated"))[0] == 400
    assert await is_unharmed(server)


async def answer_of_a_model_with(server: Running, zoo: Path, template: str, **wanted: Any) -> tuple[int, str]:
    weights = with_chat_template((zoo / "zoo-think.gguf").read_bytes(), template)
    body = {"model": "trojan-template", "files": {"x.gguf": await upload(server, weights)}, "stream": False}
    assert (await ask(server, "/api/create", body))[0] == 200
    return await generate(server, model="trojan-template", think=None, options={"num_predict": 2}, **wanted)


ATTACKS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch PATH').read() }}",
    "{{ lipsum.__globals__['os'].system('touch PATH') }}",
    "{% import os %}{{ os.system('touch PATH') }}",
    "{% include '/etc/passwd' %}",
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_model_s_template_runs_no_code_and_reads_no_file(
    server: Running, zoo: Path, tmp_path: Path, attack: str
) -> None:
    mark = tmp_path / "touched"
    status, text = await answer_of_a_model_with(server, zoo, attack.replace("PATH", str(mark)))
    assert status in (200, 400, 500) and "root:" not in text
    assert not mark.exists()
    assert await is_unharmed(server)


ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a %}{% endfor %}{% endfor %}"


async def test_a_model_s_template_that_runs_for_ever_is_ended_and_nobody_else_waits(server: Running, zoo: Path) -> None:
    template = f"{{% if messages[0]['content'] == 'attack' %}}{ENDLESS}{{% endif %}}"
    hanging = asyncio.create_task(answer_of_a_model_with(server, zoo, template, prompt="attack"))
    longest = await longest_wait(server, hanging)
    assert await hanging == (400, '{"error":"the model\'s chat template took too much time"}')
    assert longest < 0.5
    assert await is_unharmed(server)


async def test_a_model_s_template_that_works_for_ever_is_refused_and_the_model_serves_without(
    server: Running, zoo: Path
) -> None:
    hanging = asyncio.create_task(answer_of_a_model_with(server, zoo, ENDLESS))
    assert await longest_wait(server, hanging) < 0.5
    status, text = await hanging
    assert (status, text[:10]) == (400, '{"error":"') and "took too much time when it was tried" in text
    assert (await generate(server, model="trojan-template", raw=True, think=None, options={"num_predict": 2}))[0] == 200
    assert await is_unharmed(server)


async def longest_wait(server: Running, busy: "asyncio.Task[Any]") -> float:
    """The longest time that an easy request took while another one ran, in seconds."""
    longest = 0.0
    while not busy.done():
        begun = time.perf_counter()
        await ask(server, "/api/version", None, "GET")
        longest = max(longest, time.perf_counter() - begun)
        await asyncio.sleep(0.01)
    return longest


@pytest.mark.parametrize(
    "template",
    ["{{ range 1000000000 }}{{ end }}", "{{ range 10000 }}{{ range 10000 }}{{ . }}{{ end }}{{ end }}", "{{ $x := 1 }}" * 3000],
)
async def test_a_request_s_template_does_not_keep_the_others_waiting(server: Running, template: str) -> None:
    await server.load("zoo-think")
    rendering = asyncio.create_task(generate(server, template=template, options={"num_predict": 1}))
    assert await longest_wait(server, rendering) < 0.25
    assert (await rendering)[0] in (200, 400)
