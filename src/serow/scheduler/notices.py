"""What is to be said of where a model runs: with the load, and with the first answer after it (never silent)."""

from dataclasses import dataclass, field


@dataclass
class Notices:
    """Sentences about one loaded model."""

    all: list[str] = field(default_factory=list)
    _is_told: bool = False

    def add(self, *sentences: str) -> str:
        """Something more to say; returns the last of it."""
        self.all += sentences
        return self.all[-1] if self.all else ""

    def look(self) -> list[str]:
        """For who has only loaded the model: it may be somebody else who uses it."""
        return [] if self._is_told else list(self.all)

    def take(self) -> list[str]:
        """For the first answer; later ones are told nothing."""
        said, self._is_told = self.look(), True
        return said
