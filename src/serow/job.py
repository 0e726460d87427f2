"""One request on its way: what was found out about it before an engine was asked."""

import time
from dataclasses import dataclass, field

from serow.api.types import GenerateRequest
from serow.constraints import Constraint
from serow.options import Options
from serow.output.thinking import ThinkingTags
from serow.runner.engine import Feature
from serow.store.model import Model
from serow.timeline import Timeline


@dataclass(frozen=True)
class Job:
    """A request with its model and options. `client` names who asks, `started` is of `time.perf_counter_ns`."""

    request: GenerateRequest
    model: Model
    options: Options
    client: str
    images: list[bytes]  # PNG
    warnings: list[str]  # grows until the last record tells it
    think: bool | str | None = None
    tags: ThinkingTags | None = None
    constraint: Constraint | None = None
    started: int = field(default_factory=time.perf_counter_ns)
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def needs(self) -> frozenset[Feature]:
        """What its engine must be able to do beyond text."""
        needs = set()
        if self.model.projector:
            needs.add(Feature.VISION)
        if self.constraint and not self.constraint.gbnf and self.constraint.schema is None:
            needs.add(Feature.LLGUIDANCE)
        return frozenset(needs)

    @property
    def context(self) -> list[int]:
        """Token ids before the prompt; fill in the middle has no use for them."""
        return [] if self.request.is_insert else self.request.context
