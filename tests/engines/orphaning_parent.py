"""Loads a model (GGUF, the name of an engine as arguments), prints the ids of the engine's processes and waits to be killed."""

import asyncio
import sys
from pathlib import Path

import psutil

from serow.engines.llamacpp.runner import LlamaRunner
from serow.settings import Settings
from tests.engines.llamacpp.engines import engine_of, load_request


async def main() -> None:
    """Never returns."""
    runner = LlamaRunner(load_request(Path(sys.argv[1]), engine=engine_of(sys.argv[2])), Settings())
    await runner.load()
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
