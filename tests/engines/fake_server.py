"""A `llama-server` for tests: the wheel behind a proxy, which does what the variable LLAMA_FAKE_FAULT says.

    rope     compute with wrong positions
    dies     end when a second request comes while one runs, if there are several slots
    mixes    give the second of two requests the first one's prompt
    hole     lose the last token of an answer when a prompt goes on behind it
    blind    see no picture
    keeps    go on working for clients that left
    hangs    answer ten requests and no more
    mute     never be healthy
    stops    end a text at the end of the context
    slow     take some time for every event
    silent   guess at tokens also where log-probabilities are wanted, and not tell those
    guessless  be told to guess and not do it
    overshoots  say one token more where it guesses

Told to guess, it says that it does, and doesn't: the wheel can't leave it for one request.
"""  # fmt: skip

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import xllamacpp
from aiohttp import web

FAULT = os.environ.get("LLAMA_FAKE_FAULT", "")
IS_DRAFTING = "--spec-type" in sys.argv
KEY = os.environ.get("LLAMA_API_KEY", "")
_NUM_ANSWERED = 10  # by one that hangs
_PAUSES = {"slow": 0.005, "dies": 0.002, "mixes": 0.002}  # seconds before each event, so that requests overlap


def params_of(flags: dict[str, str], listen: str) -> Any:
    """The wheel's parameters for the flags."""
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = flags["--model"], flags.get("--mmproj", "")
    params.hostnames, params.port, params.api_keys = [listen], 0, [KEY]
    params.n_ctx, params.n_parallel, params.kv_unified = int(flags["--ctx-size"]), int(flags["--parallel"]), False
    params.n_batch, params.n_ubatch = int(flags["--batch-size"]), int(flags["--ubatch-size"])
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(flags["--threads"])
    params.use_jinja, params.fit_params, params.ui, params.verbosity = True, False, False, 1
    params.ctx_shift = FAULT != "stops"
    if FAULT == "silent":
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        params.speculative.ngram_simple.size_n = int(flags["--spec-ngram-simple-size-n"])
        params.speculative.ngram_simple.size_m = int(flags["--spec-ngram-simple-size-m"])
    if FAULT == "rope" or (FAULT == "splits" and int(flags.get("--n-gpu-layers", 0))):
        params.rope_freq_scale = 0.5
    return params


class Proxy:
    """Passes requests on to the engine behind it."""

    def __init__(self, session: aiohttp.ClientSession, num_parallel: int) -> None:
        self._session = session
        self._num_parallel = num_parallel
        self._running: list[Any] = []  # prompts
        self._said: list[int] = []  # the last prompt and its answer
        self._num_answered = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        body = await request.read()
        if FAULT == "mute" and request.path == "/health":
            return web.Response(status=503)
        if request.path != "/completion":
            return await self._pass(request, body)
        fields = msgspec.json.decode(body)
        is_guessing = IS_DRAFTING and not fields["n_probs"] and FAULT != "guessless"
        fields["n_predict"] += is_guessing and FAULT == "overshoots"
        async with self._runs(fields):
            return await self._pass(request, msgspec.json.encode(fields), is_guessing=is_guessing)

    @contextlib.asynccontextmanager
    async def _runs(self, fields: dict[str, Any]) -> AsyncIterator[None]:
        """A completion, while it runs; its fields are changed as the fault wants it."""
        prompt = fields["prompt"]
        if FAULT == "dies" and self._running and self._num_parallel > 1:
            os._exit(3)
        if FAULT == "hangs" and self._num_answered == _NUM_ANSWERED:
            await asyncio.Event().wait()
        if FAULT == "mixes" and self._running:
            fields["prompt"] = self._running[0]
        if FAULT == "hole" and len(prompt) > len(self._said) > 0 and prompt[: len(self._said)] == self._said:
            fields["prompt"] = self._said[:-1] + prompt[len(self._said) :]
        if FAULT == "blind" and isinstance(prompt, dict):
            fields["prompt"] = prompt["prompt_string"].partition("\n")[2]
        self._num_answered += 1
        self._said = list(prompt) if isinstance(prompt, list) else []
        self._running.append(prompt)
        try:
            yield
        finally:
            self._running.remove(prompt)

    async def _pass(self, request: web.Request, body: bytes, *, is_guessing: bool = False) -> web.StreamResponse:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        async with self._session.request(request.method, request.path_qs, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status)
            await response.prepare(request)
            async for line in answer.content:
                event = msgspec.json.decode(line[6:]) if line.startswith(b"data: ") else {}
                if event:
                    await asyncio.sleep(_PAUSES.get(FAULT, 0.0))
                if "prompt_progress" not in event:
                    self._said += event.get("tokens", [])
                if is_guessing and event.get("stop"):
                    event["timings"] |= {"draft_n": 2, "draft_n_accepted": 1}
                    line = b"data: " + msgspec.json.encode(event) + b"\n"
                with contextlib.suppress(*[ConnectionError] * (FAULT == "keeps")):
                    await response.write(line)
        return response


async def serve(host: str) -> None:
    """Answer on a unix socket until we are killed."""
    inner = str(Path(host).with_name("inner.sock"))
    params = params_of(dict(zip(sys.argv[1:], sys.argv[2:], strict=False)), inner)
    server = xllamacpp.Server(params)
    connector = aiohttp.UnixConnector(inner, limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout()
    async with aiohttp.ClientSession("http://engine", connector=connector, timeout=timeout, read_bufsize=1 << 20) as session:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", Proxy(session, params.n_parallel).handle)
        runner = web.AppRunner(app, handler_cancellation=FAULT != "keeps")
        await runner.setup()
        await web.UnixSite(runner, host).start()
        await asyncio.Event().wait()
    del server


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[sys.argv.index("--host") + 1]))
