"""Text that arrives in pieces, for readers that are generators: a reader yields where it needs more.

What was read is dropped at once, so that a text of any length costs memory only where somebody keeps it. Whoever may want
to take a text back sets a mark; `taken` is what was read since.
"""

import re
from collections.abc import Callable, Generator

from serow.output.tags import overlap

Reading = Generator[None, None, None]
_SPACE = re.compile(r"\s*")


class Unreadable(Exception):
    """What was read is no call. `reason` is a sentence for the client; "" where nothing looked like one."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Ended(Exception):
    """The text ended where a reader needed more."""


class Source:
    """The pieces that were put in and are not yet read: `text` from `position` on."""

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.has_ended = False
        self.is_cut = False  # ended by a limit, not by the model
        self._mark: int | None = None
        self._marked: list[str] = []

    def put(self, text: str) -> None:
        """Add a piece at the end."""
        if self._mark is not None:
            self._marked.append(self.text[self._mark : self.position])
            self._mark = 0
        self.text = self.text[self.position :] + text
        self.position = 0

    def mark(self, position: int) -> None:
        """From here on what is read can be taken back."""
        self._mark, self._marked = position, []

    def taken(self) -> str:
        """What was read since the mark, which is gone then."""
        if self._mark is None:
            return ""
        self._marked.append(self.text[self._mark : self.position])
        self._mark = None
        return "".join(self._marked)

    def read_all(self) -> None:
        """Read what was put in so far."""
        self.position = len(self.text)

    def more(self) -> Reading:
        """Wait for a piece; raises Ended behind the last one."""
        if self.has_ended:
            raise Ended
        yield

    def skip_space(self) -> str:
        """Read the white space that comes next, as far as it is there."""
        match = _SPACE.match(self.text, self.position)
        space = match[0] if match else ""
        self.position += len(space)
        return space

    def peek(self) -> Generator[None, None, str]:
        """The next character that is no white space; it is not read, the white space is."""
        while True:
            self.skip_space()
            if self.position < len(self.text):
                return self.text[self.position]
            yield from self.more()

    def expect(self, text: str) -> Reading:
        """Read `text`, white space before it left out; raises Unreadable for anything else."""
        yield from self.peek()
        while not self.text.startswith(text, self.position):
            if not text.startswith(self.text[self.position : self.position + len(text)]):
                raise Unreadable("a tool call could not be read")
            yield from self.more()
        self.position += len(text)

    def starts_with(self, texts: tuple[str, ...]) -> Generator[None, None, str]:
        """Which of `texts` comes next, white space before it left out; "" for none. It is not read."""
        yield from self.peek()
        while True:
            found = max((text for text in texts if self.text.startswith(text, self.position)), key=len, default="")
            rest = self.text[self.position :] if len(self.text) - self.position < 100 else ""
            if not rest or not any(len(text) > len(rest) and text.startswith(rest) for text in texts):
                return found
            if self.has_ended and found:
                return found
            yield from self.more()

    def until(self, end: re.Pattern[str], longest: int) -> Generator[None, None, tuple[str, str]]:
        """Read what stands before `end`, and `end`; raises Unreadable when that is longer than `longest`."""
        while True:
            match = end.search(self.text, self.position, self.position + longest)
            if match:
                before = self.text[self.position : match.start()]
                self.position = match.end()
                return before, match[0]
            if len(self.text) - self.position >= longest:
                raise Unreadable("it has no end")
            yield from self.more()

    def pass_on(self, end: str, take: Callable[[str], None]) -> Reading:
        """Give `take` what stands before `end`, in pieces as they come, and read `end`."""
        while True:
            found = self.text.find(end, self.position)
            stop = found if found >= 0 else len(self.text) - overlap(self.text[self.position :], end)
            if stop > self.position:
                take(self.text[self.position : stop])
            if found >= 0:
                self.position = found + len(end)
                return
            self.position = stop
            yield from self.more()
