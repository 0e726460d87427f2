"""The one splitter that finds a tag in a stream, wherever its pieces split."""


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that is a beginning of `tag`, the whole tag excluded."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


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
