"""Which engine, with which flags, a model runs on: the fastest that a check has passed, or the one that the user forces."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from serow.engines.checks import Check, Checks, Speeds, model_key
from serow.engines.home import EngineHome, forced
from serow.errors import RequestError, StoreError
from serow.runner.engine import DEFAULT_FLAGS, WHEEL, Engine, Feature, FlagSet
from serow.settings import Settings
from serow.store.model import Model

_PREFERRED = 1e3  # above every ratio of speeds: the engine that was chosen by hand, wherever it has passed
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """An engine and how to start it."""

    engine: Engine = WHEEL
    flags: FlagSet = DEFAULT_FLAGS


WHEEL_CHOICE = Choice()


class Selection:
    """Chooses engines. What is built, checked, chosen or struck off meanwhile holds from the next choice on."""

    def __init__(self, settings: Settings) -> None:
        self._forced = forced(settings)
        self._num_parallel = settings.num_parallel  # what was checked with fewer slots does not count
        self._home = EngineHome(settings.engines)
        self._checks = Checks(settings.engines)
        self._struck: set[tuple[Choice, str]] = set()  # also where the results can't be written

    def choose(self, model: Model, needs: frozenset[Feature]) -> Choice:
        """The engine for requests with these needs; raises RequestError when the forced one lacks something."""
        if model.is_image:
            return WHEEL_CHOICE
        if self._forced:
            return Choice(self._forced, self._forced_flags(self._forced, model, needs))
        return max(self._candidates(model, needs), key=lambda scored: scored[0])[1]

    def strike(self, choice: Choice, model: Model, reason: str) -> bool:
        """Use this engine no more for the model, with any flags like these; whether another one will be tried."""
        if self._forced or choice.engine == WHEEL:
            return False
        self._struck.add((choice, model_key(model)))
        _log.warning("the engine %s is struck off for %s: %s", choice.engine.name, model.name.display_shortest, reason)
        try:
            self._checks.put([_failed(choice, model, reason)])
        except StoreError as error:
            _log.warning("%s", error)
        return True

    def _candidates(self, model: Model, needs: frozenset[Feature]) -> Iterator[tuple[float, Choice]]:
        """What may be chosen, with its speed as a multiple of the wheel's."""
        wheel = next((check.speeds for check in self._checks.about(WHEEL, model) if check.passed), None)
        yield 1.0, WHEEL_CHOICE
        for engine in self._home.engines():
            if engine != WHEEL and engine.can(needs) and self._home.used in ("", engine.name):
                yield from self._passed(engine, model, wheel)

    def _passed(self, engine: Engine, model: Model, wheel: Speeds | None) -> Iterator[tuple[float, Choice]]:
        for check in self._checks.about(engine, model):
            choice = Choice(engine, check.flags)
            is_struck = (choice, model_key(model)) in self._struck
            if check.passed and check.speeds and wheel and not is_struck and check.flags.num_parallel >= self._num_parallel:
                yield check.speeds.over(wheel) + (_PREFERRED if self._home.used else 0.0), choice

    def _forced_flags(self, engine: Engine, model: Model, needs: frozenset[Feature]) -> FlagSet:
        """Those of the fastest check; where there is none, those that the engine bears best."""
        for feature in sorted(needs & engine.kind.lacks):
            raise RequestError(f"the engine {engine.name} can't {feature}", hint="unset SEROW_ENGINE and SEROW_LLAMA_SERVER")
        passed = [check for check in self._checks.about(engine, model) if check.passed and check.speeds]
        best = max(passed, key=lambda check: check.speeds.decode if check.speeds else 0.0, default=None)
        return best.flags if best else engine.kind.flag_sets[-1]


def _failed(choice: Choice, model: Model, reason: str) -> Check:
    return Check(
        engine=choice.engine.name,
        build=choice.engine.build,
        model=model_key(model),
        flags=choice.flags,
        reason=reason,
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
