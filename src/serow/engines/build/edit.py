"""A change to a file of an engine's sources."""

from dataclasses import dataclass
from pathlib import Path

from serow.errors import EngineError


class BuildError(EngineError):
    """An engine could not be built or installed."""


@dataclass(frozen=True)
class Edit:
    """A change to a file of the sources: `old` stands there exactly `count` times, and becomes `new`."""

    path: str
    old: str
    new: str
    count: int = 1

    def apply(self, root: Path) -> None:
        """Change the file below `root`; raises BuildError for one that is not what the edit was made for, OSError."""
        path = root / self.path
        text = path.read_bytes() if path.is_file() else b""
        found = text.count(self.old.encode())
        if found != self.count:
            raise BuildError(f"{self.path} is not as it should be: an edit fits it {found} times instead of {self.count}")
        path.write_bytes(text.replace(self.old.encode(), self.new.encode()))
