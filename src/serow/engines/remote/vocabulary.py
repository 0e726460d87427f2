"""The vocabulary of a model whose weights are elsewhere: texts become ids in a worker, ids become bytes here (REM-02)."""

from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

from serow.engines.remote.tokenizer import encode, token_bytes
from serow.errors import LimitExceeded, RequestError
from serow.workers.pool import Limits, Pool

_ENCODE = Limits(cpu=10.0, memory=512 << 20)
_READ = Limits(cpu=20.0, memory=512 << 20)

CLIENT = ContextVar("CLIENT", default="")  # whose request this task answers: workers give each its turn


class Vocabulary:
    """One tokenizer.json. `load` before all else."""

    def __init__(self, path: Path, pool: Pool) -> None:
        self._path = str(path)
        self._pool = pool
        self._bytes: list[bytes] = []

    async def load(self) -> None:
        """Read the bytes of all tokens. Raises ModelFileError, LimitExceeded."""
        self._bytes = await self._pool.run(token_bytes, self._path, limits=_READ)

    async def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text. Raises RequestError for one that takes too long."""
        try:
            return await self._pool.run(encode, self._path, text, add_special, client=CLIENT.get(), limits=_ENCODE)
        except LimitExceeded as error:
            raise RequestError(f"the prompt can't be tokenized: it {error.reason}") from None

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text, "" for one that is none."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        return b"".join(map(self.bytes_of, tokens)).decode("utf-8", "replace")
