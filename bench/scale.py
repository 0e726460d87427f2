"""What stands behind Serow when one machine is not enough, simulated: replicas that compute nothing, in virtual time.

    python bench/scale.py --plot docs/scale.svg    # 1 to 16 replicas, 1 to 2,000 people, two kinds of router

A replica takes in prompts in pieces, decodes all its streams in steps, and remembers the conversations that it had last;
people ask, read and ask on.
"""

import argparse
import heapq
import random
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# a card of the size of an A100 with a model of eight billion parameters, in round numbers
STEP = 0.012  # seconds of a step of decoding
STEP_EACH = 0.00012  # and of each stream in it
PREFILL = 12_000  # tokens of prompts a second
PIECE = 2048  # tokens of prompts in one step
MOST_STREAMS = 128  # of a replica at a time
CACHE = 400_000  # tokens that a replica remembers
SYSTEM, QUESTION, ANSWER = 800, 120, 250  # tokens; answers vary by half
THINKING = 8.0  # seconds between an answer and the next question, on average
TURNS = 12  # of a conversation
DURATION = 600.0  # seconds that are simulated


@dataclass(eq=False)
class Person:
    """Asks, reads, asks on."""

    number: int
    history: int = 0  # tokens
    turn: int = 0
    conversation: int = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.number, self.conversation


@dataclass(eq=False)
class Turn:
    """One request on its way."""

    person: Person
    asked_at: float
    prompt: int  # tokens
    answer: int
    left: int = 0  # tokens of the prompt that are not taken in
    said: int = 0
    first_at: float = 0.0


@dataclass(eq=False)
class Replica:
    """Its requests, and the conversations that it remembers, the latest last."""

    waiting: deque[Turn] = field(default_factory=deque)
    reading: deque[Turn] = field(default_factory=deque)
    talking: list[Turn] = field(default_factory=list)
    cache: OrderedDict[tuple[int, int], int] = field(default_factory=OrderedDict)
    cached: int = 0
    is_stepping: bool = False

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.reading) + len(self.talking)

    def admit(self) -> None:
        """Let in who finds a place; what is remembered of the prompt need not be read."""
        while self.waiting and len(self.reading) + len(self.talking) < MOST_STREAMS:
            turn = self.waiting.popleft()
            turn.left = turn.prompt - min(self.cache.get(turn.person.key, 0), turn.prompt - 1)
            self.reading.append(turn)

    def step(self) -> tuple[float, list[Turn], list[Turn]]:
        """One step: how long it takes, who gets a token by it, who is done with the prompt."""
        budget, begun = PIECE, []
        while self.reading and budget:
            turn = self.reading[0]
            piece = min(budget, turn.left)
            turn.left -= piece
            budget -= piece
            if not turn.left:
                begun.append(self.reading.popleft())
        speaking = [*self.talking, *begun]
        return STEP + STEP_EACH * len(speaking) + (PIECE - budget) / PREFILL, speaking, begun

    def remember(self, turn: Turn) -> None:
        self.cached -= self.cache.pop(turn.person.key, 0)
        self.cache[turn.person.key] = turn.prompt + turn.answer
        self.cached += turn.prompt + turn.answer
        while self.cached > CACHE and self.cache:
            self.cached -= self.cache.popitem(last=False)[1]


Router = Callable[[Turn, Sequence[Replica]], Replica]


def round_robin() -> Router:
    """One after the other, whoever asks."""
    number = iter(range(1 << 62))
    return lambda _, replicas: replicas[next(number) % len(replicas)]


def by_prefix() -> Router:
    """The replica that the beginning of the conversation hashes to, unless it has half as much again as the others."""

    def route(turn: Turn, replicas: Sequence[Replica]) -> Replica:
        wanted = replicas[hash(turn.person.key) % len(replicas)]
        mean = sum(each.load for each in replicas) / len(replicas)
        return wanted if wanted.load <= 1.5 * mean + 2 else min(replicas, key=lambda each: each.load)

    return route


ROUTERS = {"round robin": round_robin, "by prefix": by_prefix}


@dataclass(frozen=True)
class Outcome:
    """What a simulation saw. Times in seconds to the first token."""

    tokens_per_second: float
    first_token: float  # median
    first_token_95: float
    fairness: float  # Jain's index of the tokens that people got: 1 is equal


class Simulation:
    """People, replicas and a router in virtual time."""

    def __init__(self, num_people: int, num_replicas: int, router: Router, duration: float = DURATION, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._duration = duration
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._replicas = [Replica() for _ in range(num_replicas)]
        self._router = router
        self._first: list[float] = []
        self._tokens = [0] * num_people
        for number in range(num_people):
            person = Person(number)
            self._at(self._random.uniform(0, THINKING), partial(self._ask, person))

    def run(self) -> Outcome:
        """Simulate; the first tenth is warming up and counts only in speed."""
        while self._events and self._events[0][0] < self._duration:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
        waits = sorted(self._first) or [self._duration]
        total = sum(self._tokens)
        fairness = total**2 / (len(self._tokens) * sum(each**2 for each in self._tokens)) if total else 1.0
        return Outcome(total / self._duration, statistics.median(waits), waits[int(len(waits) * 0.95)], fairness)

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def _ask(self, person: Person, now: float) -> None:
        if person.turn == TURNS:
            person.turn, person.history, person.conversation = 0, 0, person.conversation + 1
        person.turn += 1
        answer = int(ANSWER * self._random.uniform(0.5, 1.5))
        turn = Turn(person, now, SYSTEM + person.history + QUESTION, answer)
        replica = self._router(turn, self._replicas)
        replica.waiting.append(turn)
        self._step(replica, now)

    def _step(self, replica: Replica, now: float) -> None:
        if replica.is_stepping:
            return
        replica.admit()
        if not replica.reading and not replica.talking:
            return
        duration, speaking, begun = replica.step()
        replica.is_stepping = True
        self._at(now + duration, partial(self._stepped, replica, speaking, begun))

    def _stepped(self, replica: Replica, speaking: list[Turn], begun: list[Turn], now: float) -> None:
        replica.is_stepping = False
        for turn in begun:
            turn.first_at = now
            if now > self._duration / 10:
                self._first.append(now - turn.asked_at)
        for turn in speaking:
            turn.said += 1
            self._tokens[turn.person.number] += 1
        replica.talking = [turn for turn in speaking if turn.said < turn.answer]
        for turn in speaking:
            if turn.said >= turn.answer:
                replica.remember(turn)
                turn.person.history = turn.prompt - SYSTEM + turn.answer
                self._at(now + self._random.expovariate(1 / THINKING), partial(self._ask, turn.person))
        self._step(replica, now)


def simulate(plot: Path | None) -> None:
    """A table, and a plot of it."""
    print(
        "| replicas | people | router | tokens/s | first token, median | 95 in 100 | fairness |\n|---|---|---|---|---|---|---|"
    )
    found: dict[tuple[str, int, int], Outcome] = {}
    for replicas in (1, 2, 4, 8, 16):
        for people in (1, 10, 50, 200, 500, 1000, 2000):
            for name, router in ROUTERS.items():
                each = found[name, replicas, people] = Simulation(people, replicas, router()).run()
                print(
                    f"| {replicas} | {people} | {name} | {each.tokens_per_second:,.0f} | {each.first_token:.2f} s |"
                    f" {each.first_token_95:.2f} s | {each.fairness:.2f} |",
                    flush=True,
                )
    if plot:
        draw(found, plot)


def draw(found: dict[tuple[str, int, int], Outcome], path: Path) -> None:
    """First tokens by people, a line for each number of replicas, a picture for each router."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "serow"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(ROUTERS), figsize=(10, 4), sharey=True)
    for axis, name in zip(axes, ROUTERS, strict=True):
        for replicas in sorted({each for _, each, _ in found}):
            line = {people: each for (router, count, people), each in found.items() if (router, count) == (name, replicas)}
            axis.plot(list(line), [each.first_token_95 for each in line.values()], marker="o", label=f"{replicas}")
        axis.set(title=f"router: {name}", xlabel="people", xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend(title="replicas")
    axes[0].set_ylabel("first token, 95 in 100 within (s)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="an SVG of it")
    simulate(parser.parse_args().plot)


if __name__ == "__main__":
    main()
