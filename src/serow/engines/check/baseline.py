"""What the wheel makes of a model, with which engines are compared."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from serow.engines.base import CompletionRequest, TextRunner
from serow.engines.check.answers import Answer, Step, ask, greedy
from serow.engines.check.prompts import PROMPTS, PROSE

_NUM_PREDICT = 16  # tokens of each text
_NUM_PLACES = 6  # at the end of each text, whose next token is asked for alone
_NUM_BEYOND = 16  # tokens before the context is full, and behind it
_LONGEST_PROMPT = 160  # tokens of a new prompt
_SHARE = 2  # a prompt takes one part in so many of the context
_REPEATED, _REPEATS = 16, 4  # tokens of a prompt that says the same again and again, and how often
NUM_TEXTS = len(PROMPTS) + 1
_NUM_REPEATING = 48  # tokens behind it


@dataclass(frozen=True)
class Text:
    """A prompt and what the wheel made of it. `places`: prompts that end at the last tokens of the whole text."""

    content: str
    prompt: list[int]  # its tokens
    answer: Answer
    places: tuple[list[int], ...]
    steps: tuple[Step | None, ...]  # the next token of each place; None inside a character

    @property
    def request(self) -> CompletionRequest:
        """The request that the answer is to."""
        return greedy(self.prompt, _NUM_PREDICT)


@dataclass(frozen=True)
class Baseline:
    """The texts of the wheel, and the one that goes on beyond its context."""

    texts: tuple[Text, ...]
    filling: list[int]  # a prompt that leaves little of the context
    beyond: Answer  # to it
    can_shift: bool = False  # whether a text can go on beyond the context at all
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def shortest(self) -> list[list[int]]:
        """All prompts, the shortest first."""
        return sorted((text.prompt for text in self.texts), key=len)

    @property
    def long(self) -> list[int]:
        """The prompt that is longer than a batch."""
        return self.shortest[-1]

    def new_prompt(self) -> list[int]:
        """A prompt that no engine has seen: it begins in another place every time."""
        first, *rest = self.long
        number = next(self._numbers) % len(rest)
        return [first, *rest[number:], *rest[:number]][:_LONGEST_PROMPT]

    def lasting(self, first: int) -> list[list[int]]:
        """Prompts whose texts do not end soon, but for the long one, beginning with the one of that number."""
        texts = [text for text in self.texts if text.answer.usage.done_reason == "length"] or list(self.texts)
        prompts = [text.prompt for text in texts if text.prompt is not self.long] or [self.long]
        first %= len(prompts)
        return prompts[first:] + prompts[:first]

    @property
    def repeating(self) -> list[CompletionRequest]:
        """Requests for texts of few words, which repeat themselves and have no end before their limit."""
        words = [text.prompt[:_REPEATED] for text in self.texts]
        return [greedy(each * _REPEATS, _NUM_REPEATING, words=each) for each in words]

    def overflow(self, words: Sequence[int] = ()) -> CompletionRequest:
        """A request that goes on beyond the context; without words the text may end by itself before."""
        return greedy(self.filling, 2 * _NUM_BEYOND, words=words)

    def endless(self, prompt: Sequence[int], *, cache: bool = True) -> CompletionRequest:
        """A request that ends only when its client leaves."""
        return greedy(prompt, -1, words=self.long, cache=cache)


async def listen(wheel: TextRunner, batch: int, tell: Callable[[int], None]) -> Baseline:
    """Ask the wheel everything, and `tell` how many of NUM_TEXTS are done; one prompt has more tokens than a `batch`."""
    heard = list[Text]()
    for content in (*PROMPTS, await _long(wheel, batch)):
        heard.append(await _hear(wheel, content))
        tell(len(heard))
    texts = tuple(heard)
    long = max((text.prompt for text in texts), key=len)
    filling = (long * (wheel.num_ctx // len(long) + 1))[: wheel.num_ctx - _NUM_BEYOND]
    baseline = Baseline(texts, filling, await ask(wheel, greedy(filling, 2 * _NUM_BEYOND)))
    return replace(baseline, can_shift=(await ask(wheel, baseline.overflow(long))).usage.is_shifted)


async def _long(wheel: TextRunner, batch: int) -> str:
    long = PROSE
    while len(await wheel.tokenize(long, add_special=True)) <= batch:
        long += PROSE
    return long


async def _hear(wheel: TextRunner, content: str) -> Text:
    ids = await wheel.tokenize(content, add_special=True)
    while len(ids) > wheel.num_ctx // _SHARE:  # the model's tokens are short
        content = content[: len(content) // 2]
        ids = await wheel.tokenize(content, add_special=True)
    answer = await ask(wheel, greedy(ids, _NUM_PREDICT))
    whole = await wheel.tokenize(content + answer.text, add_special=True)
    places = tuple(whole[:end] for end in range(max(1, len(whole) - _NUM_PLACES), len(whole)))
    return Text(content, ids, answer, places, tuple([await next_step(wheel, place) for place in places]))


async def next_step(runner: TextRunner, prompt: list[int]) -> Step | None:
    """The next token alone; None when it ends inside a character."""
    return next(iter((await ask(runner, greedy(prompt, 1))).steps), None)
