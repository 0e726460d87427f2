"""What is to be completed, and how: the requests that an engine gets for one answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from serow.constraints import Constraint
from serow.engines.base import CompletionRequest
from serow.inference.calling import Calling
from serow.options import Options
from serow.output.thinking import ThinkingTags


@dataclass(frozen=True)
class Plan:
    """What to complete and how; `begun`: what the prompt holds behind an opening tag, None when none is open."""

    prompt: list[int] | str
    options: Options
    num_predict: int
    images: Sequence[bytes] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    constraint: Constraint | None = None
    tags: ThinkingTags | None = None
    begun: str | None = None
    calling: Calling | None = None

    @property
    def think_budget(self) -> int | None:
        """Tokens that the thinking may take; None: as many as it likes, which a negative option says too."""
        budget = self.options.think_budget
        return None if budget is None or budget < 0 else budget

    @property
    def num_think(self) -> int:
        """Tokens of a run that thinks, -1 for no limit."""
        if self.think_budget is None:
            return self.num_predict
        budget = max(1, self.think_budget)
        return min(budget, self.num_predict) if self.num_predict >= 0 else budget

    @property
    def thinks_apart(self) -> bool:
        """Whether the thinking is a run of its own: something else holds for what follows it."""
        is_must = self.calling is not None and self.calling.is_must
        return self.tags is not None and (self.constraint is not None or self.think_budget is not None or is_must)

    @property
    def visible(self) -> tuple[str, ...]:
        """Control tokens whose text the answer shows."""
        return (*(self.tags.tokens if self.tags else ()), *(self.calling.format.tokens if self.calling else ()))

    def request(self, constraint: Constraint | None, stops: Sequence[str] = ()) -> CompletionRequest:
        """As the engine takes it, in one run from the beginning; `stops` beside the client's own."""
        options = msgspec.structs.replace(self.options, stop=(*self.options.stop, *stops)) if stops else self.options
        return CompletionRequest(
            prompt=self.prompt,
            options=options,
            num_predict=self.num_predict,
            images=self.images,
            grammar=constraint.grammar if constraint else "",
            gbnf=constraint.gbnf if constraint else "",
            json_schema=constraint.schema if constraint else None,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            cache_prompt=not self.options.deterministic,
            visible=self.visible,
        )

    def thinking_request(self) -> CompletionRequest:
        """The run that thinks: free, up to the closing tag or a call."""
        assert self.tags is not None
        stops = (self.tags.closing, *(self.calling.stops if self.calling else ()))
        return replace(self.request(None, stops), num_predict=self.num_think)
