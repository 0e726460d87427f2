"""What has happened to engines since the server started."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """Each by the model's name. Plain numbers, so that whoever reads them need not be known here."""

    loads: Counter[str] = field(default_factory=Counter)
    load_failures: Counter[str] = field(default_factory=Counter)
    load_seconds: dict[str, float] = field(default_factory=dict)  # of the loads that succeeded, together
    evictions: Counter[str] = field(default_factory=Counter)  # to make room for another model
    deaths: Counter[str] = field(default_factory=Counter)  # of engines that had been loaded

    def load(self, model: str, seconds: float) -> None:
        """A model is in memory, `seconds` after its engine was started."""
        self.loads[model] += 1
        self.load_seconds[model] = self.load_seconds.get(model, 0.0) + seconds
