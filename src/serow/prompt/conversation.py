"""A conversation becomes a prompt that fits: rendered by TEMPLATE or the GGUF's Jinja, oldest messages dropped (CHAT-12)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from serow.engines.base import CompletionRequest, TextRunner
from serow.errors import MessagesRefused, PromptTooLong
from serow.inference.ask import Conversation, Tool
from serow.options import Options
from serow.output.thinking import ThinkingTags
from serow.prompt import go, jinja
from serow.prompt.ends import MOST_CHARACTERS, number_of, prompt_beginning, tokens_of
from serow.prompt.folding import folded, has_later, is_placed
from serow.prompt.media import with_image_markers, with_media
from serow.prompt.templates import Rendering
from serow.prompt.turns import Turn, turns_of
from serow.store.model import Model

_SAMPLE = 128 << 10  # characters of dropped texts whose tokens are counted; those of the rest are taken to be alike
_USUAL_CHARACTERS = 3  # of a token
_AROUND_MESSAGE = 30  # characters that a template puts around a message
_USUAL_PICTURE = 768  # tokens, at most, of most models
_PLACE = "serow-placeholder-place"


@dataclass(frozen=True)
class Rendered:
    """A text, its tokens with those of its pictures, and what it is made of."""

    text: str
    tokens: list[int]
    num_tokens: int
    pictures: tuple[int, ...]  # by their numbers among all of the request
    is_counted: bool = True  # or else longer than its tokens say, which are too many as it is
    begun: str | None = None  # thinking of the client's that goes on
    continues: bool = False  # an answer of the client's goes on


@dataclass(frozen=True)
class Fitted:
    """A conversation that fits: what was dropped of it, in messages and tokens."""

    rendered: Rendered
    num_dropped: int = 0
    truncated: int = 0


def renderer_of(model: Model, conversation: Conversation, think: bool | str | None) -> tuple[str, list[str]]:
    """The Go template that serves, "" for the GGUF's own Jinja; and what is to be said about the choice (CHAT-07)."""
    if not model.template:
        return ("" if model.chat_template else go.DEFAULT), []
    template = go.parsed(model.template)
    unplaced = [need for need in _needs(conversation, think) if not any(map(template.uses, need.variables))]
    lacks = [need.what for need in unplaced if any(word in model.chat_template for word in need.words)]
    if not lacks:
        return model.template, []
    return "", [f"the TEMPLATE of this model has no place for {', '.join(lacks)}: the template in its file was used"]


@dataclass(frozen=True)
class _Need:
    """What a template must have a place for: the variables that are one in Go, and words that one in Jinja holds."""

    what: str
    variables: tuple[str, ...]
    words: tuple[str, ...]


_TOOLS = _Need("tools", ("Tools",), ("tools",))
_TOOL_CALLS = _Need("tool calls", ("ToolCalls",), ("tool_calls",))
_THINKING = _Need("thinking", ("Thinking", "Think", "ThinkLevel", "IsThinkSet"), ("think", "THINK", "reason"))


def _needs(conversation: Conversation, think: bool | str | None) -> list[_Need]:
    needs = []
    if conversation.tools and conversation.tool_choice.mode != "none":
        needs.append(_TOOLS)
    if any(message.tool_calls for message in conversation.messages):
        needs.append(_TOOL_CALLS)
    if think or any(message.thinking for message in conversation.messages):
        needs.append(_THINKING)
    return needs


class Fitter:
    """Renders a conversation with fewer and fewer messages, until it fits."""

    def __init__(
        self,
        model: Model,
        conversation: Conversation,
        images: Sequence[bytes],
        think: bool | str | None,
        tags: ThinkingTags | None,
        template: str,
        rendering: Rendering,
        runner: TextRunner,
    ) -> None:
        self._conversation = conversation
        self._images = images
        self._think = think
        self._tags = tags
        self._template = template
        self._context_length = model.context_length
        self._takes_text = jinja.takes_text(model.chat_template)
        self._rendering = rendering
        self._runner = runner
        self._turns = turns_of(model, conversation, tags)
        self._sizes: dict[int, int] = {}  # tokens of a picture, by its number
        choice = conversation.tool_choice
        self._tools: Sequence[Tool] = () if choice.mode == "none" else conversation.tools

    async def fit(self, num_ctx: int, *, truncate: bool, must_fit: bool = True) -> Fitted:
        """The whole where it fits, else without the oldest messages; raises PromptTooLong where that may not or can not be.

        Without `must_fit` a last message that is too long alone is shown all the same.
        """
        self._check_tools(num_ctx)
        units = _units(self._turns)
        whole = None
        least = await self._hopeless(num_ctx)
        if not least:
            whole = await self._render(self._turns, num_ctx)
            if whole.num_tokens < num_ctx:
                return Fitted(whole)
        if not truncate:
            count, is_counted = (whole.num_tokens, whole.is_counted) if whole else (least, False)
            raise PromptTooLong(count, num_ctx, what="conversation", is_least=not is_counted)
        num_kept, rendered = await self._largest(units, num_ctx)
        if must_fit and rendered.num_tokens >= num_ctx:
            raise PromptTooLong(rendered.num_tokens, num_ctx, what="last message", is_least=not rendered.is_counted)
        dropped = [self._turns[number] for unit in units[: len(units) - num_kept] for number in unit]
        return Fitted(rendered, len(dropped), await self._lost(whole, rendered, dropped))

    async def count(self) -> int:
        """How many tokens the whole has, also where it does not fit; a picture counts what the engine makes of it."""
        shown, pictures = _marked(self._turns)
        text, _ = await self._text(shown)
        bare, _ = with_media(text, [self._images[number] for number in pictures], "")
        num_tokens = await number_of(bare, self._context_length, self._runner)
        return num_tokens + sum([await self._size(each) for each in pictures])

    def _check_tools(self, num_ctx: int) -> None:
        """Raise PromptTooLong for tools that alone can't fit: they are not rendered."""
        num_least = sum(len(msgspec.json.encode(tool.definition)) for tool in self._tools) // MOST_CHARACTERS
        if num_least > num_ctx:
            raise PromptTooLong(num_least, num_ctx, what="list of tools", is_least=True)

    async def _hopeless(self, num_ctx: int) -> int:
        """The tokens of the beginning of texts that alone are far too long, so that the whole need not be rendered; else 0.

        Each message takes one at least.
        """
        if len(self._turns) > num_ctx:
            return len(self._turns)
        text = "\n".join(turn.content for turn in self._turns)
        if len(text) <= num_ctx * MOST_CHARACTERS:
            return 0
        ids, is_all = await prompt_beginning(text, num_ctx, self._runner)
        return 0 if is_all else len(ids)

    async def _largest(self, units: list[list[int]], num_ctx: int) -> tuple[int, Rendered]:
        """How many units at the end fit, searched from a guess on; with what they are rendered to."""
        found: dict[int, Rendered] = {}

        async def fits(num_kept: int) -> bool:
            found[num_kept] = await self._render(_kept(self._turns, units, num_kept), num_ctx)
            return found[num_kept].num_tokens < num_ctx

        low, high, step = -1, len(units) + 1, 1
        guess = min(self._guess(units, num_ctx), len(units))
        while high - low > 1:
            low, high = (guess, high) if await fits(guess) else (low, guess)
            is_bracketed = low >= 0 and high <= len(units)
            guess = (low + high) // 2 if is_bracketed else max(0, guess - step) if low < 0 else min(len(units), guess + step)
            step *= 2
        low = max(low, 0)
        return low, found[low]

    def _guess(self, units: list[list[int]], num_ctx: int) -> int:
        """How many units at the end will about fit, by their characters."""
        left = num_ctx * _USUAL_CHARACTERS
        for num_kept, unit in enumerate(reversed(units)):
            left -= sum(len(self._turns[number].content) + _AROUND_MESSAGE for number in unit)
            if left < 0:
                return num_kept
        return len(units)

    async def _lost(self, whole: Rendered | None, rendered: Rendered, dropped: Sequence[Turn]) -> int:
        if whole is not None and whole.is_counted:
            return whole.num_tokens - rendered.num_tokens
        text = "\n".join(turn.content for turn in dropped)
        sample = text[:_SAMPLE]
        return len(await self._runner.tokenize(sample, add_special=False)) * len(text) // max(1, len(sample))

    async def _render(self, turns: Sequence[Turn], num_ctx: int) -> Rendered:
        shown, pictures = _marked(turns)
        text, begun = await self._text(shown)
        ids, is_counted = await prompt_beginning(text, num_ctx, self._runner)
        num_tokens = len(ids)
        if pictures and is_counted:
            bare, _ = with_media(text, [self._images[number] for number in pictures], "")
            num_tokens = len(await tokens_of([], bare, self._runner)) + await self._size_of(pictures, num_ctx - num_tokens)
        begun = self._begun(turns) if begun is None else begun
        continues = bool(turns) and turns[-1].is_open and bool(turns[-1].content) and begun is None
        return Rendered(text, ids, num_tokens, pictures, is_counted, begun, continues)

    def _begun(self, turns: Sequence[Turn]) -> str | None:
        """The thinking that the text of an open answer begins with and does not end."""
        content = turns[-1].content if turns and turns[-1].is_open else ""
        is_thought = self._tags is not None and content.lstrip().startswith(self._tags.opening)
        return self._tags.begun(content, raw=True) if is_thought and self._tags else None

    async def _text(self, turns: Sequence[Turn]) -> tuple[str, str | None]:
        """The text of turns, and thinking that goes on; a later system message that has no place is the user's (ANT-03)."""
        if not (self._conversation.folds_system and has_later(turns)):
            return await self._text_of(turns)
        try:
            text, begun = await self._text_of(turns)
        except MessagesRefused:
            return await self._text_of(folded(turns))
        return (text, begun) if is_placed(text, turns) else await self._text_of(folded(turns))

    async def _text_of(self, turns: Sequence[Turn]) -> tuple[str, str | None]:
        if not self._template:
            takes_text, client = self._takes_text, self._rendering.client
            head = await jinja.render(
                self._conversation, turns, self._think, self._runner, self._tools, takes_text=takes_text, client=client
            )
            is_open = bool(turns) and turns[-1].is_open
            return jinja.continued(head, turns[-1], self._think, self._tags) if is_open else (head, None)
        if not turns or not turns[-1].is_open:
            return await self._rendering.render(self._template, turns, self._think, self._tools), None
        return await self._continued(turns)

    async def _continued(self, turns: Sequence[Turn]) -> tuple[str, str | None]:
        """The text up to the end of the last message; what the template puts behind it is cut off (CHAT-06)."""
        last, template = turns[-1], go.parsed(self._template)
        goes_on_thinking = bool(last.thinking) and not last.content and template.uses("Thinking")
        marked = replace(last, thinking=_PLACE) if goes_on_thinking else replace(last, content=_PLACE)
        whole = await self._rendering.render(self._template, [*turns[:-1], marked], self._think, self._tools)
        before, found, _ = whole.rpartition(_PLACE)
        if not found:
            return await self._rendering.render(self._template, turns, self._think, self._tools), None
        return before + (last.thinking if goes_on_thinking else last.content), last.thinking if goes_on_thinking else None

    async def _size_of(self, pictures: Sequence[int], room: int) -> int:
        """Tokens that pictures take: what most take, or what the engine says where it is doubtful whether they fit."""
        if len(pictures) * _USUAL_PICTURE <= room // 2:
            return len(pictures) * _USUAL_PICTURE
        return sum([await self._size(each) for each in pictures])

    async def _size(self, number: int) -> int:
        """Tokens that a picture takes: asked of the engine, once."""
        if number not in self._sizes:
            marker = self._runner.media_marker
            request = CompletionRequest(marker, Options(), num_predict=1, images=[self._images[number]], cache_prompt=False)
            beginning = len(await self._runner.tokenize("", add_special=True))
            async for chunk in self._runner.complete(request):
                if chunk.usage is not None:
                    self._sizes[number] = chunk.usage.prompt_eval_count - beginning
        return self._sizes[number]


def _units(turns: Sequence[Turn]) -> list[list[int]]:
    """What is dropped together, the oldest first: a message, or calls and their results. System messages and the last stay."""
    units: list[list[int]] = []
    for number, turn in enumerate(turns):
        if turn.role == "system":
            continue
        if turn.role == "tool" and units and turns[units[-1][0]].tool_calls:
            units[-1].append(number)
        else:
            units.append([number])
    return units[:-1]


def _kept(turns: Sequence[Turn], units: list[list[int]], num_kept: int) -> list[Turn]:
    dropped = {number for unit in units[: len(units) - num_kept] for number in unit}
    return [turn for number, turn in enumerate(turns) if number not in dropped]


def _marked(turns: Sequence[Turn]) -> tuple[list[Turn], tuple[int, ...]]:
    """Pictures as `[img-N]` in the texts, N from 0 through all that is kept; and which ones these are."""
    shown, pictures = [], list[int]()
    for turn in turns:
        if turn.pictures:
            turn = replace(turn, content=with_image_markers(turn.content, len(turn.pictures), len(pictures)))
            pictures += turn.pictures
        shown.append(turn)
    return shown, tuple(pictures)
