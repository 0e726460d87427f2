"""A server whose engines compute nothing: what it costs is the server alone. `python -m bench.fake_server` reads the settings.

Thinking, texts and calls of tools come from a few scripts, one after the other, so that every parser has something to read.
"""

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from serow.engines.base import Chunk, CompletionRequest, LoadRequest, Runner
from serow.server.app import serve
from serow.settings import load
from tests.support.engine import FakeEngine, FakePainter, Piece

_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
_TEXTS = ("Hello, world", "<think>\nso be it\n</think>\n\n4", _CALL, '{"a": 1, "b": "aa"}', "{", '"x"', "\ufffd\U0001f600 7")


class Engine(FakeEngine):
    """Says one text after the other and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._texts = itertools.cycle(_TEXTS)
        self.scripts = [self._next]

    def _next(self, request: CompletionRequest) -> Sequence[Piece]:
        text = next(self._texts)
        return [text[start : start + 3] for start in range(0, len(text), 3)]

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """Forget what was asked before."""
        for kept in (self.requests, self.rendered, self.tools):
            kept.clear()
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                yield chunk


def start(request: LoadRequest) -> Runner:
    """An engine for a model."""
    return FakePainter() if request.model.is_image else Engine()


def run() -> None:
    """Serve until a signal."""
    serve(load(), start=start)


if __name__ == "__main__":
    run()
