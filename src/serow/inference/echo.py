"""The prompt read back, with the log-probability of each of its tokens (OAI-15, OAI-16).

Engines tell log-probabilities of what they sample only. So the prompt is sampled: behind its first token, under a grammar
that allows nothing but its other tokens, one after another. What is told is the model's own distribution, before that.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from serow.engines.base import CompletionRequest, Logprob, TextRunner
from serow.inference.ask import Raw
from serow.inference.events import Echo
from serow.options import Options

_AT_ONCE = 256  # tokens of one grammar
_PLAIN = Options(temperature=0.0, repeat_penalty=1.0)


@dataclass
class _Told:
    """Tokens as text, each with what is known of it; of a token that ends a text that is nothing."""

    tokens: list[str] = field(default_factory=list)
    logprobs: list[Logprob | None] = field(default_factory=list)

    def add(self, token: str, logprob: Logprob | None) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)


async def read_back(asked: Raw, tokens: Sequence[int], runner: TextRunner, top: int | None) -> Echo:
    """The prompt's text; with `top` its tokens' log-probabilities, and those of as many others at each place.

    The first token has none, nor has the first behind a beginning of text that the prompt itself does not hold.
    """
    text = asked.prompt if isinstance(asked.prompt, str) else await runner.detokenize(tokens)
    if top is None or not tokens:
        return Echo(text)
    told = _Told()
    first = await runner.detokenize(tokens[:1])
    is_written = text.startswith(first)
    if is_written:
        told.add(first, None)
    await _score(tokens, runner, top, told)
    if not is_written and told.logprobs:
        told.logprobs[0] = None
    return Echo(text, told.tokens, told.logprobs)


async def _score(tokens: Sequence[int], runner: TextRunner, top: int, told: _Told) -> None:
    """Tell of each token behind the first. One that ends a text ends a run of the engine, too: the next goes on behind it."""
    place = 1
    while place < len(tokens):
        part = tokens[place : place + _AT_ONCE]
        num_sampled = await _sample(tokens[:place], part, runner, top, told)
        place += num_sampled
        if num_sampled < len(part):
            told.add(await runner.detokenize([tokens[place - 1]]), None)


async def _sample(before: Sequence[int], part: Sequence[int], runner: TextRunner, top: int, told: _Told) -> int:
    """Sample `part` behind `before`; how many tokens that were."""
    grammar = "%llguidance {}\nstart: " + " ".join(f"<[{token}]>" for token in part)
    request = CompletionRequest(
        prompt=before, options=_PLAIN, num_predict=len(part), grammar=grammar, logprobs=True, top_logprobs=top
    )
    num_sampled = 0
    async with aclosing(runner.complete(request)) as chunks:
        async for chunk in chunks:
            num_sampled = max(num_sampled, chunk.num_tokens)
            for logprob in chunk.logprobs:
                told.add(logprob.token, logprob)
    return max(1, num_sampled)
