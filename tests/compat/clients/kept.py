"""Where the programs are installed, and what they asked for when they ran: `SEROW_RECORD_CLIENTS=1` keeps it anew."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.recorder import recording

ENVIRONMENTS = Path(__file__).parents[3] / ".clients"
KEPT = Path(__file__).parent / "kept"


@asynccontextmanager
async def before(url: str, program: str = "") -> AsyncIterator[str]:
    """The address for a program: the server's own, or that of a recorder before it which keeps what a named program asks."""
    if not program or "SEROW_RECORD_CLIENTS" not in os.environ:
        yield url
        return
    async with recording(url) as recorder:
        yield recorder.url
    recorder.write(KEPT / f"{program}.jsonl")
