"""The application: routes, the guard before them, and what lives as long as the server does."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from serow.devices.inventory import Inventory
from serow.engines import packaged, socket_directory, wheel_cpu
from serow.engines.base import LoadRequest, Runner
from serow.engines.devices import engines_with_devices
from serow.engines.diffusers.runner import ImageRunner
from serow.engines.llamacpp.chat_templates import ChatTemplates
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.llamacpp.slot_cache import SlotCache
from serow.engines.remote.runner import RemoteRunner
from serow.engines.upkeep import Upkeep
from serow.engines.vllm.runner import VllmRunner
from serow.errors import SerowError
from serow.inference.service import Inference
from serow.inference.tokenizers import Tokenizers
from serow.keys import KeyFile, Keyring
from serow.library.library import Library
from serow.metrics import Metrics
from serow.scheduler.scheduler import RunnerFactory, Scheduler
from serow.server import bind, log, metrics
from serow.server.connection import bounded
from serow.server.context import Context
from serow.server.ending import end_by_first, end_by_second, on_signal
from serow.server.exchange import Exchange, ExchangeMiddleware
from serow.server.guard import Guard, RequireKey
from serow.server.idle import Idle
from serow.server.in_flight import InFlight
from serow.server.page.recent import Recent
from serow.server.refusals import Refusals
from serow.server.responses import client_left, method_not_allowed, not_found, render_error
from serow.server.routes import OPERATIONS, PUBLIC_PATHS
from serow.server.secure import SecureListener
from serow.server.stalls import StallWatch
from serow.server.stored import StoredAnswers
from serow.server.tracing import open_traces
from serow.settings import Settings, unused
from serow.store.heads import Heads
from serow.store.model import Model
from serow.store.store import Store
from serow.store.uploads import Uploads
from serow.system.limits import forbid_core_files, use_one_heap
from serow.workers.pool import Pool

if TYPE_CHECKING:
    from serow.server.spans import Traces

logger = logging.getLogger(__name__)
_LONGEST_IDLE = 120  # seconds of a connection without a request: clients that close theirs first (Go after 90) lose nothing
_NO_START = 3  # uvicorn's exit status where it can't listen


class _Application(Starlette):
    """Starlette, watched from outside: what its own error handling answers is observed too, and whether its loop is held."""

    def __init__(self, observers: list[Callable[[Exchange], None]], stalls: StallWatch, **options: Any) -> None:
        super().__init__(**options)
        self._observers = observers
        self.stalls = stalls

    def build_middleware_stack(self) -> ASGIApp:
        return ExchangeMiddleware(super().build_middleware_stack(), self._observers)


def create_app(settings: Settings, start: RunnerFactory | None = None) -> _Application:
    """Build the application; while it runs, `app.state.context` holds its parts.

    `start` makes the engines, in place of our own.
    """
    keyring = Keyring(settings.api_keys, KeyFile(settings.key_file))
    bind.require_key(settings, keyring)
    counted, traces = Metrics(), open_traces(settings)
    in_flight, recent = InFlight(settings.max_in_flight), Recent()
    observers = [
        in_flight.release,
        partial(metrics.observe, counted),
        log.request_logger(settings),
        recent.observe,
        *([traces.record] if traces else ()),
    ]
    return _Application(
        observers,
        StallWatch(counted.observe_stall),
        routes=[operation.route() for operation in OPERATIONS],
        middleware=[
            Middleware(Refusals),
            Middleware(Guard, settings.origins, settings.hosts, settings.max_header),
            Middleware(RequireKey, keyring, PUBLIC_PATHS, may_be_open=bind.may_be_open(settings)),
        ],
        exception_handlers=HANDLERS,
        lifespan=partial(_lifespan, settings, start, counted, in_flight, recent, traces),
    )


HANDLERS = {
    SerowError: render_error,
    ClientDisconnect: client_left,
    404: not_found,
    405: method_not_allowed,
    Exception: render_error,
}


@asynccontextmanager
async def _lifespan(
    settings: Settings,
    start: RunnerFactory | None,
    counted: Metrics,
    in_flight: InFlight,
    recent: Recent,
    traces: "Traces | None",
    app: _Application,
) -> AsyncIterator[None]:
    """What lives as long as the server: the store, the scheduler with its engines, the numbers and traces."""
    pool, slots = Pool(), SlotCache(settings.slot_directory, settings.slot_cache)
    store = Store(settings.models, Heads(pool), may_prune=not settings.noprune, further=settings.further_models)
    for sweep in (store.sweep, slots.sweep, socket_directory.sweep):
        await asyncio.to_thread(sweep)
    async with (
        pool,
        ChatTemplates(pool) as templates,
        Tokenizers(start or partial(LlamaRunner, settings=settings, templates=templates)) as tokenizers,
        Inventory(partial(engines_with_devices, settings)) as inventory,
        Scheduler(settings, start or partial(_start, settings, slots, templates, pool), inventory=inventory) as scheduler,
        Uploads(store.blobs) as uploads,
    ):
        library = Library(store, settings, partial(_forget, scheduler, tokenizers, slots))
        await asyncio.to_thread(library.sweep)
        for notice in await asyncio.to_thread(_notices, library, settings):
            logger.warning("%s", notice)
        inference = Inference(store, scheduler, pool, settings.max_pixels, tokenizers)
        parts = (settings, inventory, store, slots, scheduler, library, inference, pool, counted, in_flight, recent)
        app.state.context = Context(*parts, StoredAnswers(), uploads)
        counted.follow(scheduler)
        app.stalls.start()
        warming = asyncio.create_task(asyncio.to_thread(store.list))  # so that no first request waits for a header
        async with Upkeep(settings, store.list, lambda: scheduler.is_busy):
            yield
        app.stalls.stop()
        await warming
    if traces:
        await asyncio.to_thread(traces.close)


def _notices(library: Library, settings: Settings) -> list[str]:
    """What is to be said at the start: of models in the store, of engines that came as packages, of one that can't run."""
    is_chosen = bool(settings.engine or settings.llama_server)
    reason = "" if is_chosen else wheel_cpu.refusal()
    return [
        *library.notices(),
        *packaged.sentences(packaged.read(settings.engines)),
        *([f"{reason}; {wheel_cpu.HINT}"] if reason else ()),
    ]


async def _forget(scheduler: Scheduler, tokenizers: Tokenizers, slots: SlotCache, model: Model) -> None:
    """Unload a model whose files have changed; what its users said goes with its weights."""
    scheduler.forget(model)
    await tokenizers.unload(model)
    await asyncio.to_thread(slots.sweep)


def _start(settings: Settings, slots: SlotCache, templates: ChatTemplates, pool: Pool, request: LoadRequest) -> Runner:
    if request.model.is_remote:
        return RemoteRunner(request, settings, pool)
    if request.model.is_vllm:
        return VllmRunner(request, settings, pool)
    return ImageRunner(request, settings) if request.model.is_image else LlamaRunner(request, settings, slots, templates)


class _Server(uvicorn.Server):
    """uvicorn that takes no new work once it was told to end, and ends with exit status 0 (LIFE-07)."""

    def __init__(self, app: _Application, config: uvicorn.Config, idle: Idle) -> None:
        super().__init__(config)
        self._app = app
        self._idle = idle

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        signals = [signal.SIGINT, signal.SIGTERM]
        before = {each: signal.getsignal(each) for each in signals}
        for each in signals:
            on_signal(each, self.handle_exit)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where we listen once we do: people and tests read the port from here."""
        context = self.config.ssl
        await super().startup(sockets if context is None else [])
        if context is not None:
            await self._listen_securely(context)
        if self.started:
            scheme = "https" if self.config.is_ssl else "http"
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            _keep_out_of_collections()
            log.announce(self._app.state.context.settings, f"{scheme}://{name}:{port}")

    async def _listen_securely(self, context: ssl.SSLContext) -> None:
        """Listen as uvicorn does without TLS; it would not count handshakes."""
        speak = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        make = partial(speak, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        listener = SecureListener(make, context, self._app.state.context.settings)
        try:
            await listener.listen(self.config.host, self.config.port, self.config.backlog)
        except OSError as error:
            logger.error("%s", error)
            await self.lifespan.shutdown()
            sys.exit(_NO_START)
        self.servers = [cast(asyncio.Server, listener)]

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; True ends the server."""
        if self._idle.is_possible and counter % 10 == 0:
            scheduler: Scheduler = self._app.state.context.scheduler
            if self._idle.is_over(is_busy=bool(scheduler.loaded() or scheduler.num_waiting or self.server_state.tasks)):
                logger.info("nobody has used this server for the time that SEROW_IDLE_TIMEOUT says: it ends")
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests in flight go on within the grace time; who waits gets 503."""
        self._app.state.context.scheduler.stop()
        if self.server_state.tasks:
            grace = self.config.timeout_graceful_shutdown
            logger.info("requests in flight may finish within %s s; a second signal ends them", grace)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests in flight finish, a second one ends them."""
        self.force_exit = self.should_exit
        self.should_exit = True
        on_signal(sig, self.handle_exit)
        if self.force_exit:
            end_by_second(self._app.stalls.delay)
        else:
            end_by_first(self.config.timeout_graceful_shutdown or 0)


def _keep_out_of_collections() -> None:
    """What is there by now stays for good: the collector of garbage, which stops all threads, need not look at it again."""
    gc.collect()
    gc.freeze()


def serve(settings: Settings, log_file: Path | None = None, start: RunnerFactory | None = None) -> None:
    """Listen until SIGTERM or SIGINT; requests in flight may finish within `settings.grace` seconds.

    `start` makes the engines, in place of our own.
    """
    log.configure(settings, log_file)
    forbid_core_files()
    use_one_heap()
    for sentence in unused():
        logger.warning("%s", sentence)
    app = create_app(settings, start)
    bind.allow_connections(settings.max_connections * (1 if settings.tls_cert is None else 2))  # handshakes are none yet
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody can write X-Forwarded-For: whom we count is who connects, or a key
        http=bounded(settings),
        ws="none",  # the guard knows HTTP only
        **bind.tls_options(settings),
        timeout_keep_alive=_LONGEST_IDLE,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )
    _Server(app, config, Idle(settings.idle_timeout)).run()
