"""Which engine, with which flags, a model runs on: the fastest that a check has passed, or the one that the user forces."""

import logging
from dataclasses import dataclass, replace

from serow.engines.attention import settled, unsettled
from serow.engines.check.checks import Check, Checks
from serow.engines.home import EngineHome, forced
from serow.engines.kinds import DEFAULT_FLAGS, REMOTE, VLLM, WHEEL, Engine, Feature, FlagSet
from serow.engines.vllm import environment
from serow.errors import RequestError, StoreError
from serow.settings import Settings
from serow.store.model import Model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """An engine and how to start it."""

    engine: Engine = WHEEL
    flags: FlagSet = DEFAULT_FLAGS
    warnings: tuple[str, ...] = ()  # what is to be said of it


WHEEL_CHOICE = Choice()


class Selection:
    """Chooses engines. What is built, checked, chosen or struck off meanwhile holds from the next choice on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._forced = forced(settings)
        self._num_parallel = settings.num_parallel  # what was checked with fewer slots does not count
        self._drafts = settings.drafts  # nor what guesses, where that is not wanted
        self._home = EngineHome(settings.engines)
        self._checks = Checks(settings.engines)
        self._disproved: set[Check] = set()  # also where the results can't be written

    def choose(self, model: Model, needs: frozenset[Feature]) -> Choice:
        """The engine for requests with these needs; raises RequestError when the forced one lacks something."""
        if model.is_remote:
            return Choice(REMOTE)
        if model.is_image:
            return WHEEL_CHOICE
        if Feature.EMBEDDINGS in needs and not model.is_vllm:
            # Built engines are checked for texts only; of what is embedded nothing is kept.
            return Choice(WHEEL, settled(replace(self._settings, kv_cache_type=""), model)(DEFAULT_FLAGS))
        choice = self._for_texts(model, needs)
        return replace(choice, warnings=unsettled(choice.flags, self._settings, model))

    def _for_texts(self, model: Model, needs: frozenset[Feature]) -> Choice:
        if model.is_vllm:
            return Choice(self._able(environment.find(self._settings).engine, needs))
        if self._forced:
            return self._force(self._forced, model, needs)
        used = self._home.used
        engines = [engine for engine in self._home.engines() if engine.can(needs) and used in ("", engine.name)]
        passed = [(check, engine) for engine in engines for check in self._passed(engine, model)]
        best, engine = max(passed, key=lambda each: each[0].merit, default=(None, WHEEL))
        is_worth_it = best and (used or best.speedup > 1)  # who has chosen an engine gets it though it is slower
        return Choice(engine, best.flags) if best and is_worth_it else Choice(WHEEL, self._settled(DEFAULT_FLAGS, model))

    def _settled(self, flags: FlagSet, model: Model) -> FlagSet:
        return settled(self._settings, model)(flags)

    def strike(self, choice: Choice, model: Model, reason: str) -> bool:
        """Use this engine no more for the model, with any flags like these; whether another one will be tried."""
        if self._forced or choice.engine in (WHEEL, REMOTE) or choice.engine.kind is VLLM:
            return False
        believed = [check for check in self._passed(choice.engine, model) if check.flags == choice.flags]
        if not believed:  # struck off already, or built and checked anew meanwhile
            return True
        self._disproved.update(believed)
        _log.warning("the engine %s is struck off for %s: %s", choice.engine.name, model.name.display_shortest, reason)
        try:
            wheel_flags = self._settled(DEFAULT_FLAGS, model)
            self._checks.put([Check.of(choice.engine, choice.flags, model, reason=reason, wheel_flags=wheel_flags)])
        except StoreError as error:
            _log.warning("%s", error)
        return True

    def _passed(self, engine: Engine, model: Model) -> list[Check]:
        """What counts of what was checked."""
        return [
            check
            for check in self._checks.about(engine, model, self._settled(DEFAULT_FLAGS, model))
            if check.passed
            and check.flags.num_parallel >= self._num_parallel
            and (self._drafts or not check.flags.guesses)
            and check not in self._disproved
        ]

    def _force(self, engine: Engine, model: Model, needs: frozenset[Feature]) -> Choice:
        """The engine that is forced, with the flags of its fastest check; without one, those that it bears best."""
        self._able(engine, needs, "unset SEROW_ENGINE and SEROW_LLAMA_SERVER")
        best = max(self._passed(engine, model), key=lambda check: check.merit, default=None)
        return Choice(engine, best.flags if best else self._settled(self._safest(engine), model))

    def _able(self, engine: Engine, needs: frozenset[Feature], hint: str = "") -> Engine:
        """The engine, unless it lacks something; raises RequestError."""
        for feature in sorted(needs & engine.kind.lacks):
            raise RequestError(f"the engine {engine.name} can't {feature}", hint=hint)
        return engine

    def _safest(self, engine: Engine) -> FlagSet:
        """The first of the flags which it bears unchecked that have the slots which are set."""
        return max(engine.kind.unchecked, key=lambda flags: min(flags.num_parallel, self._num_parallel))
