"""A child process that serves HTTP to us alone, and its whole life: starting, ready, closing, dead.

The child is a module of ours, started as `python -m MODULE`. It reads one JSON line from stdin (`child.Assignment`: where
to listen, the key to ask for, its spec), answers `GET /health` with 200 once it can work, and ends when its stdin ends.
It listens on a unix socket in a private directory, or on a loopback port where there are no such sockets; the key is random
and never on a command line. What it writes to stderr is kept, bounded, to explain a failure.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from serow.engines.child import Assignment, Listen
from serow.engines.socket_directory import SOCKET, SocketDirectory
from serow.engines.stream import AnswerStream, post
from serow.errors import EngineDied, EngineError, LoadError
from serow.system.limits import clean_environment, kill_group, private_memory

CLOSE_TIMEOUT = 5.0  # seconds that a child may take to end by itself
CONNECT_TIMEOUT = 10.0
_FIRST_POLL, _LONGEST_POLL = 0.005, 0.2
_MEMORY_POLL = 0.25  # seconds
_GREEDY = "the engine took more memory than it may"
_LAST_WORDS = 1.0  # seconds in which what a child wrote before it ended is read
_EXIT_NOTICE = 1.0  # seconds between a connection that breaks and the exit of its process
# How the names of variables begin by which people tune what engines are made of. What is the server's alone, such as its keys,
# the headers of its traces or the user and password of an index, is no engine's business.
_LIBRARIES = (
    "AMD_", "CUDA_", "DYLD_", "GGML_", "GOMP_", "GPU_", "HIP_", "HSA_", "KMP_", "LLAMA_", "MESA_", "METAL_", "MKL_", "MTL_",
    "NVIDIA_", "OMP_", "ONEAPI_", "OPENBLAS_", "PYTORCH_", "ROCR_", "SYCL_", "TORCH_", "TRITON_", "VK_", "VLLM_", "ZE_",
)  # fmt: skip
_STDERR_TAIL = 16 << 10
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux


_log = logging.getLogger(__name__)


class State(Enum):
    """Where a child is in its life; it only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    CLOSING = "closing"
    DEAD = "dead"


def explain_exit(returncode: int, stderr: str) -> str:
    """The sentence for a child that ended while it started; `stderr` is the end of what it wrote."""
    return f"the engine ended with {exit_name(returncode)} while it started"


def explain_end(returncode: int, stderr: str) -> EngineDied:
    """The error for a child that ended at work; `stderr` is the end of what it wrote."""
    return EngineDied(f"the engine ended with {exit_name(returncode)}")


def exit_name(returncode: int) -> str:
    """What ended a process: "signal 9", "status 1"."""
    number = -returncode if returncode < 0 else returncode - 128  # as a shell, and our launcher, tell a signal
    return f"signal {number}" if number > 0 else f"status {returncode}"


class ChildProcess:
    """One child, from `start` to `close`. `session` speaks to it, once it is started, with paths as URLs."""

    session: aiohttp.ClientSession
    _listen: Listen

    def __init__(
        self,
        module: str,
        spec: Mapping[str, Any] | msgspec.Struct,
        *,
        load_timeout: float,
        stall_timeout: float = math.inf,
        explain: Callable[[int, str], str] = explain_exit,
        explain_end: Callable[[int, str], EngineDied] = explain_end,
        may_use_unix_socket: bool = True,
        memory_limit: int = 0,
        hear: Callable[[bytes], None] = lambda piece: None,
    ) -> None:
        """`memory_limit`: bytes of its own that end it, 0 for none; `hear` is given its stderr. For the rest see the module."""
        self._module = module
        self._spec = spec
        self._load_timeout = load_timeout
        self._stall_timeout = stall_timeout
        self._explain = explain
        self._explain_end = explain_end
        self._may_use_unix_socket = may_use_unix_socket
        self._memory_limit = memory_limit
        self._hear = hear
        self._state = State.STARTING
        self._stderr = bytearray()
        self._fault = ""  # why we killed it
        self._directory: SocketDirectory | None = None
        self._process: Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def is_alive(self) -> bool:
        """Whether it is ready and its process runs."""
        return self._state is State.READY

    @property
    def pid(self) -> int:
        """Process id, 0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def size(self) -> int:
        """Resident bytes of the process and its children, 0 when it is gone."""
        try:
            process = psutil.Process(self.pid)
            return sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))
        except psutil.NoSuchProcess:
            return 0

    @property
    def stderr(self) -> str:
        """The end of what it wrote."""
        return self._stderr.decode(errors="replace")

    @property
    def is_greedy(self) -> bool:
        """Whether it was ended because it took too much memory."""
        return self._fault == _GREEDY

    async def start(self) -> None:
        """Return once it answers; raises LoadError, and leaves nothing behind when it fails or is cancelled."""
        try:
            await self._spawn()
            await self._become_ready()
        except BaseException:
            self.kill("the engine was given up while it started")  # it may be busy for long, and has nothing to save
            await self.close()
            raise

    async def close(self) -> None:
        """End it: politely, then by force; returns when the process, its session and its directory are gone."""
        if self._state is not State.DEAD:
            self._state = State.CLOSING
        if self._watcher is not None:
            await self.session.close()
            await self._end()
        if self._guard is not None:
            await self._guard
        if self._directory is not None:
            await asyncio.to_thread(self._directory.remove)

    def stream(self, path: str, body: bytes) -> AbstractAsyncContextManager[AnswerStream]:
        """Post JSON, for an answer that is read as it comes; raises Unreachable, TimeoutError."""
        return post(self._listen, path, body, CONNECT_TIMEOUT)

    def kill(self, reason: str) -> None:
        """End it by force, now: it hangs. Requests are told `reason`. `close` is still needed."""
        if self._process is not None and self._process.returncode is None:
            self._state, self._fault = State.CLOSING, reason
            kill_group(self._process.pid)

    async def gone(self) -> EngineError:
        """The error for a request that lost its connection. When the process ended, `is_alive` is false from here on."""
        if self._watcher is not None:
            await asyncio.wait({self._watcher}, timeout=_EXIT_NOTICE)
        if self.is_alive:
            return EngineError("the engine broke off its answer")
        if self._fault:
            return EngineDied(self._fault)
        code = self._process.returncode if self._process else None
        return EngineDied("the engine is not running") if code is None else self._explain_end(code, self.stderr)

    async def _spawn(self) -> None:
        self._directory = SocketDirectory()
        listen = _choose_address(self._directory.path if self._may_use_unix_socket else None)
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            start_new_session=True,
            env=clean_environment(*_LIBRARIES),
        )
        self._watcher = asyncio.create_task(self._watch(process))
        self._guard = asyncio.create_task(self._guard_memory(process.pid)) if self._memory_limit else None
        self._listen, self.session = listen, _open_session(listen, self._stall_timeout)
        assert process.stdin is not None
        assignment = msgspec.json.encode(Assignment(listen, msgspec.Raw(msgspec.json.encode(self._spec))))
        if process.stdin.is_closing():  # it ended at once: the watcher knows, and uvloop would fail with a RuntimeError
            return
        process.stdin.write(assignment + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()

    async def _watch(self, process: Process) -> None:
        """Keep the end of stderr until the process ends, then end what it has left behind and say that it is dead."""
        assert process.stderr is not None
        hearing = asyncio.create_task(self._keep(process.stderr))
        try:
            while not hearing.done() and process.returncode is None:  # `wait` would wait for the end of the pipes, too
                await asyncio.wait({hearing}, timeout=_EXIT_NOTICE)
            if hearing.done():
                await process.wait()
            if sys.platform != "win32":  # a number of a group is nobody else's while something of it is left
                kill_group(process.pid)
            await asyncio.wait({hearing}, timeout=_LAST_WORDS)
        finally:
            self._state = State.DEAD
            hearing.cancel()
            await asyncio.wait({hearing})

    async def _keep(self, stderr: asyncio.StreamReader) -> None:
        """The end of what it writes; what it has started may hold the pipe for longer than it lives."""
        while piece := await stderr.read(4096):
            self._hear(piece)
            self._stderr += piece
            del self._stderr[:-_STDERR_TAIL]

    async def _guard_memory(self, pid: int) -> None:
        """End it when it holds more than its limit: the system's own limit only fails allocations, and some try on."""
        assert self._watcher is not None
        while not self._watcher.done():
            if await asyncio.to_thread(private_memory, pid) > self._memory_limit:
                self.kill(_GREEDY)
            await asyncio.wait({self._watcher}, timeout=_MEMORY_POLL)

    async def _become_ready(self) -> None:
        assert self._watcher is not None
        assert self._process is not None
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._load_timeout
        pause = _FIRST_POLL
        while not await self.answers():
            await asyncio.wait({self._watcher}, timeout=pause)
            if self._process.returncode is not None:
                await self._watcher
                raise LoadError(self._fault or self._explain(self._process.returncode, self.stderr))
            if clock() > deadline:
                raise LoadError(
                    f"the model did not load within {self._load_timeout:g} seconds", hint="raise SEROW_LOAD_TIMEOUT"
                )
            pause = min(pause * 1.2, _LONGEST_POLL)
        if self._state is State.STARTING:
            self._state = State.READY

    async def answers(self) -> bool:
        """Whether it says now that it can work."""
        try:
            async with self.session.get("/health", timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _end(self) -> None:
        assert self._watcher is not None
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            await asyncio.wait({self._watcher}, timeout=CLOSE_TIMEOUT)
        finally:
            if not self._watcher.done():
                self.kill("the engine did not end by itself")
        if not (await asyncio.wait({self._watcher}, timeout=CLOSE_TIMEOUT))[0]:
            _log.error("process %d of an engine can't be ended: the system holds it in a call, maybe of a driver", self.pid)
            self._watcher.cancel()
            await asyncio.wait({self._watcher})


class ChildRunner:
    """A Runner whose engine is a child of ours."""

    _child: ChildProcess

    @property
    def is_alive(self) -> bool:
        """Whether it can take requests."""
        return self._child.is_alive

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def size(self) -> int:
        """Bytes of main memory that the child and its processes hold."""
        return self._child.size

    async def close(self) -> None:
        """End the child; returns when its processes are gone."""
        await self._child.close()


def _choose_address(directory: Path | None) -> Listen:
    """A socket in the directory, where that can be; else a free port."""
    key = secrets.token_urlsafe(32)
    if directory and hasattr(socket, "AF_UNIX") and sys.platform != "win32":
        path = str(directory / SOCKET)
        if len(path) <= _LONGEST_SOCKET_PATH:
            return Listen(path, 0, key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Listen("127.0.0.1", probe.getsockname()[1], key)


def finite(seconds: float) -> float | None:
    """As aiohttp has it: None is for ever."""
    return seconds if seconds < math.inf else None


def _open_session(listen: Listen, stall_timeout: float) -> aiohttp.ClientSession:
    # A connection for each request: an idle one would hold a thread of the engine, and race with its five-second limit.
    connector: aiohttp.BaseConnector
    if listen.port:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
    else:
        connector = aiohttp.UnixConnector(listen.host, limit=0, force_close=True)
    return aiohttp.ClientSession(
        f"http://{listen.host}:{listen.port}" if listen.port else "http://engine",
        connector=connector,
        headers={"Authorization": f"Bearer {listen.key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=finite(stall_timeout)),
    )
