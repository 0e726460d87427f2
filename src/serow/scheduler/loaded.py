"""A model in memory, as /api/ps tells it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from serow.devices.use import Use
from serow.engines.base import LoadRequest, Runner
from serow.scheduler.resident import Resident, State
from serow.store.model import Model

_FOR_EVER = (2**63 - 1) / 1e9  # seconds: Go's longest duration, 292 years


@dataclass(frozen=True)
class LoadedModel:
    """What is told of a resident. Sizes in bytes."""

    request: LoadRequest
    size: int
    size_vram: int
    expires_at: datetime
    num_running: int
    num_waiting: int
    runner: Runner
    uses: tuple[Use, ...] = ()

    @property
    def model(self) -> Model:
        """Whose name it was loaded by."""
        return self.request.model

    @property
    def pid(self) -> int:
        """Process id of its engine, 0 where that is not ours."""
        return self.runner.pid

    @classmethod
    def of(cls, resident: Resident, now: float, num_waiting: int) -> Self:
        """A resident that is told, `now` by the monotonic clock, with how many wait for it."""
        assert resident.runner is not None
        left = resident.keep_alive if resident.num_running else resident.expires_at - now
        size, size_vram = resident.sizes(resident.runner)
        return cls(
            request=resident.request,
            size=size,
            size_vram=size_vram,
            expires_at=datetime.now(UTC) + timedelta(seconds=min(left, _FOR_EVER)),
            num_running=resident.num_running,
            num_waiting=num_waiting,
            runner=resident.runner,
            uses=resident.uses,
        )


def is_told(resident: Resident) -> bool:
    """Whether it is in memory; an engine at an address is nobody's memory here, and is told while it is used."""
    return resident.state is State.READY and not resident.is_dead and bool(resident.num_running or not resident.is_remote)
