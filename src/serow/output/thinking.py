"""Thinking and answer told apart by the model's tags (GEN-14).

White space around the tags belongs to neither side; white space before the closing tag stays, as in the peer.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from serow.output.tags import TagSplitter

_TOKEN = re.compile(r"<\|?\w+\|?>")


@dataclass(frozen=True)
class ThinkingTags:
    """What opens and closes a model's thinking, and what opens an answer without one."""

    opening: str
    closing: str
    plain: str = ""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tags, and the control tokens that they may be made of."""
        own = (self.opening, self.closing)
        return (*own, *sorted(set(_TOKEN.findall(self.opening + self.closing)) - set(own)))

    def without_thinking(self, content: str) -> str:
        """A message's text without the thinking that it begins with."""
        text = content.lstrip()
        _, closed, answer = text.partition(self.closing)
        return answer.lstrip() if closed and text.startswith(self.opening) else content

    def begun(self, prompt: str, *, raw: bool) -> str | None:
        """What stands behind the opening tag at a prompt's end, so that the model goes on thinking; None when nothing is open.

        A raw prompt is in the model's own notation: there a tag that is not closed counts wherever it stands.
        """
        _, found, begun = prompt.rpartition(self.opening)
        return begun if found and (not begun.strip() or (raw and self.closing not in begun)) else None


CHANNELS = ThinkingTags(  # gpt-oss
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
KNOWN_TAGS = (
    ThinkingTags("<think>", "</think>"),
    ThinkingTags("[THINK]", "[/THINK]"),
    ThinkingTags("<seed:think>", "</seed:think>"),
    ThinkingTags("<reasoning>", "</reasoning>"),
    ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>"),
    ThinkingTags("<|channel>thought", "<channel|>"),  # gemma4
    CHANNELS,
)


def tags_of_jinja(chat_template: str) -> ThinkingTags | None:
    """The tags that a Jinja template names, None when it names none that we know."""
    return next((tags for tags in KNOWN_TAGS if tags.opening in chat_template or tags.closing in chat_template), None)


class _State(Enum):
    OPENING = auto()  # nothing but white space so far
    AFTER_OPENING = auto()  # white space behind the opening tag
    THINKING = auto()
    AFTER_CLOSING = auto()  # white space behind the closing tag
    ANSWER = auto()


class ThinkingParser:
    """Splits a stream; `begun` is what the prompt already holds behind the opening tag, None when it holds none."""

    def __init__(self, tags: ThinkingTags, begun: str | None = None) -> None:
        self._tags = tags
        self._state = _State.OPENING if begun is None else _State.AFTER_OPENING
        self._start = ""
        self._closing = TagSplitter(tags.closing)
        if begun:
            self.feed(begun)

    @property
    def is_thinking(self) -> bool:
        """Whether the opening tag was there and its closing one was not."""
        return self._state in (_State.AFTER_OPENING, _State.THINKING)

    @property
    def has_answered(self) -> bool:
        """Whether the answer has begun: all that comes belongs to it."""
        return self._state is _State.ANSWER

    def end(self) -> tuple[str, str]:
        """Begin the answer; (thinking, answer) that was held back."""
        self._state = _State.ANSWER
        return self.flush()

    def feed(self, text: str) -> tuple[str, str]:
        """Return (thinking, answer) that `text` completes."""
        if self._state is _State.ANSWER:
            return "", text
        if self._state is _State.OPENING:
            return self._open(text)
        if self._state is _State.AFTER_CLOSING:
            return "", self._answer(text)
        return self._think(text)

    def end_thinking(self) -> str:
        """The thinking is over, though its closing tag did not come; returns what was held back of it."""
        self._state = _State.AFTER_CLOSING
        return self._closing.flush()

    def flush(self) -> tuple[str, str]:
        """What was held back when the text ends."""
        start, self._start = self._start, ""
        return self._closing.flush(), start

    def _open(self, text: str) -> tuple[str, str]:
        self._start += text
        start = self._start.lstrip()
        opening, plain = self._tags.opening, self._tags.plain
        if start.startswith(opening):
            self._start, self._state = "", _State.AFTER_OPENING
            return self._think(start[len(opening) :])
        if plain and start.startswith(plain):
            self._start, self._state = "", _State.AFTER_CLOSING
            return "", self._answer(start[len(plain) :])
        if opening.startswith(start) or plain.startswith(start):
            return "", ""
        text, self._start, self._state = self._start, "", _State.ANSWER
        return "", text

    def _think(self, text: str) -> tuple[str, str]:
        if self._state is _State.AFTER_OPENING:
            text = text.lstrip()
            if not text:
                return "", ""
            self._state = _State.THINKING
        thinking, answer = self._closing.feed(text)
        if answer is None:
            return thinking, ""
        self._state = _State.AFTER_CLOSING
        return thinking, self._answer(answer)

    def _answer(self, text: str) -> str:
        text = text.lstrip()
        if text:
            self._state = _State.ANSWER
        return text
