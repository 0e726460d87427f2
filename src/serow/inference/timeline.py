"""What one request to a model went through, and when: the flow fills it in, metrics, log and traces read it afterwards."""

import time
from bisect import bisect_left

from serow.engines.base import Usage

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between two pieces of text
_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS)


class Timeline:
    """Marks of `time.perf_counter_ns`, 0 for what did not happen; counts in tokens, over all tries of an answer."""

    def __init__(self) -> None:
        self.started = time.perf_counter_ns()
        self.model = ""  # as the store names it
        self.asked_at = 0  # of the first try, as are the next three
        self.placed_at = 0
        self.loaded_at = 0
        self.first_token_at = 0
        self.last_token_at = 0
        self.prompt_eval_count = 0
        self.prompt_cached_count = 0
        self.eval_count = 0
        self.draft_count = 0
        self.draft_accepted_count = 0
        self.gaps = [0] * (len(BOUNDS) + 1)  # how many were up to each of BOUNDS, and above
        self.gaps_duration = 0  # ns, all of them together
        self._num_tokens = 0  # of this try
        self._num_prompt = 0  # tokens of its prompt

    def ask(self) -> None:
        """A place in the model is asked for."""
        self.asked_at = self.asked_at or time.perf_counter_ns()
        self._num_tokens = self._num_prompt = 0

    def send(self, num_prompt: int) -> None:
        """The engine gets a prompt of so many tokens; they count once the answer begins, though its client may leave."""
        self._num_prompt = num_prompt

    def place(self, load_duration: int) -> None:
        """The place is there, and since it was, the model took `load_duration` ns to load."""
        self.loaded_at = self.loaded_at or time.perf_counter_ns()
        self.placed_at = self.placed_at or self.loaded_at - load_duration

    def sample(self, num_tokens: int) -> None:
        """The engine has sampled `num_tokens` in this try. Called for each token: nothing here may take long."""
        if num_tokens <= self._num_tokens:
            return
        now = time.perf_counter_ns()
        if not self._num_tokens:
            self.prompt_eval_count += self._num_prompt
        if self._num_tokens:
            gap = now - self.last_token_at
            self.gaps[bisect_left(_BOUNDS_NS, gap)] += 1
            self.gaps_duration += gap
        elif not self.first_token_at:
            self.first_token_at = now
        self.eval_count += num_tokens - self._num_tokens
        self._num_tokens = num_tokens
        self.last_token_at = now

    def finish(self, usage: Usage) -> None:
        """The engine has finished this try."""
        self.prompt_eval_count += usage.prompt_eval_count - (self._num_prompt if self._num_tokens else 0)
        self.prompt_cached_count += usage.prompt_cached_count
        self.eval_count += max(0, usage.eval_count - self._num_tokens)
        self.draft_count += usage.draft_count
        self.draft_accepted_count += usage.draft_accepted_count
