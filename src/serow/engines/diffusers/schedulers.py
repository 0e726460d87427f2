"""The schedulers that a pipeline is drawn with: its own, and others that a request names. Imported in the child only."""

import inspect
from functools import wraps
from typing import Any

import diffusers

from serow.errors import RequestError
from serow.picture_schedulers import NEUTRAL, SCHEDULERS, check_fit


class Schedulers:
    """The own scheduler of a pipeline, and those that took its place, each made once from its settings."""

    def __init__(self, pipe: Any) -> None:
        self._own: Any = getattr(pipe, "scheduler", None)
        self._made: dict[str, Any] = {}
        self._is_from_noise = True
        self._watch(self._own)

    def put(self, pipe: Any, name: str | None, *, is_from_noise: bool) -> None:
        """Have a form of the pipeline drawn with the scheduler of that name, with its own for None; raises RequestError.

        `is_from_noise`: from the first step on, and not from a picture.
        """
        wanted = self._own if name is None else self._of(name)
        self._is_from_noise = is_from_noise
        if getattr(pipe, "scheduler", None) is not wanted:
            pipe.scheduler = wanted

    def _of(self, name: str) -> Any:
        if name not in self._made:
            check_fit(name, type(self._own).__name__)
            self._made[name] = self._make(name)
            self._watch(self._made[name])
        return self._made[name]

    def _watch(self, scheduler: Any) -> None:
        """Have it count its steps from the first one. By itself it looks for its first timestep, to which more than one of
        Karras' may be rounded, takes the second of them, and is out of steps before the last.
        """
        own = getattr(scheduler, "set_timesteps", None)
        if own is None or not hasattr(scheduler, "set_begin_index"):
            return

        @wraps(own)  # its arguments are looked at
        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            own(*args, **kwargs)
            if self._is_from_noise:
                scheduler.set_begin_index(0)

        scheduler.set_timesteps = set_timesteps

    def _make(self, name: str) -> Any:
        wanted = SCHEDULERS[name]
        kind = getattr(diffusers, wanted.kind, None)
        if kind is None:
            raise RequestError(
                f'diffusers {diffusers.__version__} has no scheduler "{name}" ({wanted.kind})', param="options.scheduler"
            )
        takes = inspect.signature(kind.__init__).parameters
        neutral = {key: value for key, value in NEUTRAL.items() if key in takes}
        try:
            return kind.from_config(self._own.config, **{**neutral, **wanted.settings})
        except ImportError as error:
            what = "needs the package scipy, which is not installed" if "scipy" in str(error) else "is not to be had here"
            raise RequestError(f'the scheduler "{name}" {what}', param="options.scheduler") from None
        except (ValueError, NotImplementedError) as error:
            message = f'the scheduler "{name}" takes not all settings of the model\'s own'
            raise RequestError(message, param="options.scheduler") from error
