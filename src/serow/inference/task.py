"""An Ask on its way: what was found out about it before an engine was asked."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import msgspec

from serow.constraints import Constraint, Verdict
from serow.engines.kinds import Feature
from serow.inference.ask import Ask, Raw
from serow.inference.timeline import Timeline
from serow.options import Options
from serow.output.thinking import ThinkingTags
from serow.prompt.templates import Rendering
from serow.store.model import Model

Judge = Callable[[str, bool], Awaitable[Verdict]]  # whether a text, cut or not, fits the format


class DecodeImages(Protocol):
    """Pictures in base64 or as data URIs become PNG."""

    async def __call__(self, images: Sequence[str], *, as_mask: bool = False) -> list[bytes]: ...


@dataclass(frozen=True)
class Task:
    """An Ask with its model and options. `client` names who asks, `started` is of `time.perf_counter_ns`."""

    ask: Ask
    model: Model
    options: Options
    client: str = ""
    timeline: Timeline = field(default_factory=Timeline)
    warnings: tuple[str, ...] = ()
    images: Sequence[bytes] = ()  # PNG
    mask: bytes | None = None  # PNG
    think: bool | str | None = None
    tags: ThinkingTags | None = None
    constraint: Constraint | None = None
    rendering: Rendering = field(default_factory=Rendering)
    judge: Judge | None = None  # where there is a constraint
    started: int = field(default_factory=time.perf_counter_ns)

    @property
    def needs(self) -> frozenset[Feature]:
        """What its engine must be able to do beyond text."""
        if self.ask.purpose == "embed":
            return frozenset({Feature.EMBEDDINGS})
        needs = set()
        if self.model.projector:
            needs.add(Feature.VISION)
        if self.constraint and not self.constraint.gbnf and not self.constraint.portable:
            needs.add(Feature.LLGUIDANCE)
        if isinstance(self.ask.prompt, Raw) and self.ask.prompt.echo and self.ask.logprobs:
            needs.add(Feature.LLGUIDANCE)
        return frozenset(needs)

    def again(self, attempt: int) -> Self:
        """The same with another seed."""
        seed = self.options.seed + attempt if self.options.seed >= 0 else -1
        return replace(self, options=msgspec.structs.replace(self.options, seed=seed))
