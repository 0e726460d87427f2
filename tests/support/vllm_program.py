"""A vLLM that computes nothing, as a program: `python -m tests.support.vllm_program -m vllm.entrypoints.openai.api_server …`.

It takes vLLM's arguments, starts a process of its own as vLLM does, and writes down what it was started with in the file that
VLLM_FAKE_RECORD names. VLLM_FAKE_MODE says how it goes wrong: a word of `FAULTS`, or "hang".
The process that it starts ends when it ends, unless VLLM_FAKE_CORE is "stays": then it has to be ended.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from aiohttp import web

from tests.support.vllm import FakeVllm

FAULTS = {
    "broken": "ValueError: Model architectures ['Foo'] are not supported for now. See /opt/vllm/registry.py",
    "memory": "ValueError: Free memory on device cuda:0 (1.0/80.0 GiB) on startup is less than desired GPU memory utilization",
    "absent": "/opt/python: Error while finding module: No module named 'vllm'",
}


def main() -> None:
    """Serve until the end."""
    options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=False))
    mode = os.environ.get("VLLM_FAKE_MODE", "")
    waits = "import time; time.sleep(600)" if os.environ.get("VLLM_FAKE_CORE") == "stays" else "import sys; sys.stdin.read()"
    core = subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE)
    record = {"argv": sys.argv[1:], "environ": dict(os.environ), "pids": [os.getpid(), core.pid]}
    Path(os.environ["VLLM_FAKE_RECORD"]).write_text(json.dumps(record))
    if mode in FAULTS:
        core.kill()
        sys.exit(
            f"Traceback (most recent call last):\n  a line\n{FAULTS[mode]}\nRuntimeError: Engine core initialization failed."
        )
    asyncio.run(serve(options, hangs=mode == "hang"))


async def serve(options: dict[str, str], *, hangs: bool) -> None:
    """Listen on the socket, unless it hangs while it loads."""
    engine = FakeVllm()
    engine.model, engine.max_model_len = options["--served-model-name"], int(options["--max-model-len"])
    if os.environ.get("VLLM_FAKE_MODE") == "stall":
        engine.script = ("a", asyncio.Event())
    runner = web.AppRunner(engine.application, handler_cancellation=True)
    await runner.setup()
    if not hangs:
        await web.UnixSite(runner, options["--uds"]).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
