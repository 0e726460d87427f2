"""Tags found in a stream, wherever its pieces split."""

import re
from collections.abc import Sequence


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that is a beginning of `tag`, the whole tag excluded."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


def num_shared(first: str, second: str) -> int:
    """How many characters two texts share at their beginnings."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


class TagSplitter:
    """Feeds text through until `tag` is found; what may be the tag's beginning is held back."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Return the text before the tag, and what follows it, or None while it was not found."""
        text = self._held + text
        before, found, after = text.partition(self._tag)
        if found:
            self._held = ""
            return before, after
        held = overlap(text, self._tag)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut], None

    def flush(self) -> str:
        """What was held back and turned out not to be the tag."""
        held, self._held = self._held, ""
        return held


class TagFinder:
    """Finds the first of several tags. None of them ends inside another."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = sorted(tags, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, self._tags)) or "(?!)")
        self._first = re.compile("|".join({re.escape(tag[0]) for tag in tags}) or "(?!)")
        self._longest = max(map(len, tags), default=1)

    def find(self, text: str, start: int) -> tuple[int, str]:
        """Where the first tag stands, and which it is; or, with "", how far there is none even if the text goes on."""
        match = self._any.search(text, start)
        if match:
            return match.start(), match[0]
        for first in self._first.finditer(text, max(start, len(text) - self._longest + 1)):
            rest = text[first.start() :]
            if any(tag.startswith(rest) for tag in self._tags):
                return first.start(), ""
        return len(text), ""
