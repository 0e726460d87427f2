"""What lives as long as the server does, for the handlers."""

from dataclasses import dataclass

from starlette.requests import Request

from serow.devices.inventory import Inventory
from serow.engines.llamacpp.slot_cache import SlotCache
from serow.inference.service import Inference
from serow.library.library import Library
from serow.metrics import Metrics
from serow.scheduler.scheduler import Scheduler
from serow.server.in_flight import InFlight
from serow.server.page.recent import Recent
from serow.server.stored import StoredAnswers
from serow.settings import Settings
from serow.store.store import Store
from serow.store.uploads import Uploads
from serow.workers.pool import Pool


@dataclass(frozen=True)
class Context:
    """The parts of a running server."""

    settings: Settings
    inventory: Inventory
    store: Store
    slots: SlotCache
    scheduler: Scheduler
    library: Library
    inference: Inference
    workers: Pool
    metrics: Metrics
    in_flight: InFlight
    recent: Recent
    stored: StoredAnswers
    uploads: Uploads


def context(request: Request) -> Context:
    """The parts of the server that a request came to."""
    found: Context = request.app.state.context
    return found
