"""The options of a request, which are the PARAMETER lines of a Modelfile too: one table (GEN-06).

A row is a field of `Options`: name, type, default, and an `Option` with the rest. Decoding, the OpenAPI document, the command
line's help and docs/options.md read it.
"""

import difflib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from msgspec import Struct

from serow import bounds
from serow.errors import RequestError
from serow.picture_schedulers import canonical

Use = Literal["load", "sampling", "picture"]

_INT64 = 2**63 - 1
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_LARGEST = sys.float_info.max  # JSON's whole numbers know no end, ours do
SMALLEST_NUM_CTX = 16
LARGEST_SIDE = 4096  # pixels of a drawn picture
MOST_STEPS = 1000
MOST_GUIDANCE = 100.0
MOST_PICTURES = 8  # of one request
MOST_WEIGHT = 100.0  # of an adapter, with either sign


@dataclass(frozen=True)
class Option:
    """What an option is for. `load`: changing it loads the model anew. Numbers outside `low` to `high` are refused."""

    help: str
    use: Use = "sampling"
    low: float = -math.inf
    high: float = math.inf


class LoadOptions(Struct, frozen=True, kw_only=True):
    """Options that a model is loaded with; a change of them (a smaller num_ctx aside) loads it anew (LIFE-03)."""

    num_ctx: Annotated[
        int, Option("tokens of context for each request; 0 is the server's default, the least is 16", "load", low=0)
    ] = 0
    num_batch: Annotated[int, Option("tokens of a prompt that are read at once", "load")] = 512
    num_gpu: Annotated[int, Option("layers on the GPU; -1: as many as fit", "load")] = -1
    main_gpu: Annotated[int, Option("which GPU, counted from 0; -1: the one that suffices", "load", low=-1)] = -1
    use_mmap: Annotated[bool | None, Option("map the file instead of reading it", "load")] = None
    num_thread: Annotated[int, Option("threads; 0: by the machine", "load")] = 0


class Options(LoadOptions, frozen=True, kw_only=True):
    """Every option of one request, the defaults filled in. None: the engine's own default."""

    num_keep: Annotated[int, Option("tokens of the prompt's beginning that stay when something has to be dropped")] = 4
    seed: Annotated[int, Option("same seed, same text; -1 is random")] = -1
    num_predict: Annotated[int, Option("most tokens of an answer; -1: until its end, -2: until the context is full")] = -1
    draft_num_predict: Annotated[
        int | None, Option("most tokens that are guessed at once where an engine guesses; 0: none")
    ] = None
    num_draft: Annotated[int | None, Option("the same, where draft_num_predict is not given")] = None
    top_k: Annotated[int, Option("sample among so many likeliest tokens; 0: all")] = 40
    top_p: Annotated[float, Option("sample among the likeliest tokens that have this probability together")] = 0.9
    min_p: Annotated[float, Option("leave out tokens below this part of the likeliest one's probability")] = 0.0
    typical_p: Annotated[float, Option("locally typical sampling; 1 is off")] = 1.0
    repeat_last_n: Annotated[int, Option("how many tokens back repetitions count; -1: the whole context, 0 is off")] = 64
    temperature: Annotated[float, Option("how freely to choose; 0: always the likeliest token")] = 0.8
    repeat_penalty: Annotated[float, Option("above 1: what was said becomes less likely")] = 1.0
    presence_penalty: Annotated[float, Option("how much less likely a token is that was said at all")] = 0.0
    frequency_penalty: Annotated[float, Option("how much less likely a token is for each time that it was said")] = 0.0
    stop: Annotated[tuple[str, ...], Option("texts that end the answer, themselves not sent; a single one is fine")] = ()
    # beyond Ollama's list, as the engine has them
    mirostat: Annotated[int | None, Option("Mirostat sampling: 0 is off, 1 or 2")] = None
    mirostat_tau: Annotated[float | None, Option("Mirostat's target entropy")] = None
    mirostat_eta: Annotated[float | None, Option("Mirostat's learning rate")] = None
    dry_multiplier: Annotated[float | None, Option("DRY: how much repeated sequences are punished; 0 is off")] = None
    dry_base: Annotated[float | None, Option("DRY: how the punishment grows with length")] = None
    dry_allowed_length: Annotated[int | None, Option("DRY: longest sequence that may repeat freely")] = None
    dry_penalty_last_n: Annotated[int | None, Option("DRY: how many tokens back to look; -1: the whole context")] = None
    xtc_probability: Annotated[float | None, Option("XTC: how often the likeliest tokens are left out")] = None
    xtc_threshold: Annotated[float | None, Option("XTC: from which probability on a token may be left out")] = None
    min_keep: Annotated[int | None, Option("least number of tokens that samplers leave")] = None
    logit_bias: Annotated[
        tuple[tuple[int | str, float], ...], Option('added to the logits of tokens or texts: {"token or id": bias}')
    ] = ()
    think_budget: Annotated[int | None, Option("most tokens of thinking; negative is no limit")] = None
    deterministic: Annotated[bool, Option("the same text in any company: runs alone, without the prompt cache")] = False
    # a request's own width, height and steps lie over these
    width: Annotated[int | None, Option("pixels", "picture", low=1, high=LARGEST_SIDE)] = None
    height: Annotated[int | None, Option("pixels", "picture", low=1, high=LARGEST_SIDE)] = None
    steps: Annotated[int | None, Option("steps of denoising", "picture", low=1, high=MOST_STEPS)] = None
    guidance: Annotated[float | None, Option("how closely to follow the prompt", "picture", low=0, high=MOST_GUIDANCE)] = None
    negative_prompt: Annotated[str | None, Option("what is not to be seen", "picture")] = None
    scheduler: Annotated[
        str | None, Option('how steps follow each other: "DPM++ 2M Karras", "Euler a" and others', "picture")
    ] = None
    strength: Annotated[
        float | None,
        Option("how far to leave the picture that it starts from: 0 keeps it, 1 forgets it", "picture", low=0, high=1),
    ] = None
    mask: Annotated[str | None, Option("a picture as base64: what is white in it is drawn anew", "picture")] = None
    n: Annotated[int, Option("how many pictures, each with a seed one higher", "picture", low=1, high=MOST_PICTURES)] = 1
    preview: Annotated[int, Option("a small preview after every so many steps; 0: none", "picture", low=0, high=MOST_STEPS)] = 0
    adapters: Annotated[
        tuple[tuple[str, float], ...], Option('weights of the model\'s adapters for this request: {"name": weight}', "picture")
    ] = ()

    @property
    def most_guessed(self) -> int | None:
        """Tokens that may be guessed at once; None: as the engine does."""
        return self.num_draft if self.draft_num_predict is None else self.draft_num_predict

    @property
    def load_options(self) -> LoadOptions:
        """The part that a model is loaded with."""
        return LoadOptions(**{name: getattr(self, name) for name in LoadOptions.__struct_fields__})


def _table() -> dict[str, tuple[Any, Option]]:
    hints = get_type_hints(Options, include_extras=True)
    return {name: get_args(hints[name])[:2] for name in Options.__struct_fields__}


TABLE: dict[str, tuple[Any, Option]] = _table()  # type and row by name
PICTURE_OPTIONS = tuple(name for name, (_, option) in TABLE.items() if option.use == "picture")
USED_BY_PICTURES = (*PICTURE_OPTIONS, "seed", "num_gpu", "main_gpu", "num_thread")


def parse_options(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the validated options that `raw` gives (null: not given) and the names that are unknown.

    Raises RequestError `option "top_k" must be of type integer`.
    """
    bounds.OPTIONS.check(len(raw), '"options"')
    given = {name: value for name, value in raw.items() if value is not None}
    known = {name: _READERS[name](name, value) for name, value in given.items() if name in _READERS}
    return known, [name for name in given if name not in _READERS]


def _nearest(name: str) -> str:
    """What to do about a name that is none: the one that it resembles, if there is one."""
    found = difflib.get_close_matches(name.lower(), TABLE, 1, 0.7)
    return f"is {found[0]} meant?" if found else "docs/options.md has all of them"


def read_option(name: str, words: Sequence[str]) -> Any:
    """The value of an option that people type, by the type that it has; raises RequestError, also for a name that is none."""
    if name not in TABLE:
        raise RequestError(f'unknown parameter "{name}"', hint=_nearest(name))
    options, _ = parse_options({name: _typed(TABLE[name][0], words)})
    return options[name]


def _typed(kind: Any, words: Sequence[str]) -> Any:
    """The words as a value of that type, or as they are, which the option's own check then refuses in its words."""
    if kind == str | None:
        return " ".join(words)
    if kind not in (int, int | None, float, float | None, bool, bool | None):
        return list(words)
    word = words[0].strip()
    if kind in (bool, bool | None):
        return _BOOLEANS.get(word.lower(), word)
    with suppress(ValueError):
        return int(word) if kind in (int, int | None) else float(word)
    return word


def resolve_options(*layers: Mapping[str, Any]) -> Options:
    """The defaults under all layers, each under the next; all of them validated before."""
    return Options(**{name: value for layer in layers for name, value in layer.items()})


def _fault(name: str, expected: str) -> RequestError:
    return RequestError(f'option "{name}" must be {expected}')


def _number(name: str, value: Any, kind: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        raise _fault(name, f"of type {kind}")
    return value


def _integer(name: str, value: Any) -> int:
    """Any JSON number, truncated and held to 64 bits; never a string or boolean."""
    return max(-_INT64 - 1, min(_INT64, int(_number(name, value, "integer"))))


def _float(name: str, value: Any) -> float:
    return float(_number(name, value, "float32"))


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _fault(name, "of type boolean")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _fault(name, "of type string")
    return value


def _stop(name: str, value: Any) -> tuple[str, ...]:
    """A list, or beyond the peer a single string; empty strings are dropped (GEN-07)."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)):
        raise _fault(name, "of type array")
    bounds.STOPS.check(len(texts), '"stop"')
    if not all(isinstance(text, str) for text in texts):
        raise _fault(name, "of an array of strings")
    bounds.STOP_TEXT.check(sum(map(len, texts)), '"stop"')
    return tuple(text for text in texts if text)


def _logit_bias(name: str, value: Any) -> tuple[tuple[int | str, float], ...]:
    """`{"token or id": bias}` or `[[token or id, bias], …]`."""
    if isinstance(value, (dict, list)):
        bounds.BIASES.check(len(value), '"logit_bias"')
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise _fault(name, "an object or a list of pairs")
    bounds.BIAS_TEXT.check(sum(len(token) for token, _ in pairs if isinstance(token, str)), '"logit_bias"')
    return tuple((_bias_token(name, token), _float(name, bias)) for token, bias in pairs)


def _adapters(name: str, value: Any) -> tuple[tuple[str, float], ...]:
    """`{"adapter": weight}`; a Modelfile says it with the ADAPTER line itself."""
    if not isinstance(value, dict):
        raise _fault(name, "an object of weights by the adapters' names")
    bounds.ADAPTERS.check(len(value), '"adapters"')
    weights = {key: _float(name, weight) for key, weight in value.items()}
    if any(abs(weight) > MOST_WEIGHT for weight in weights.values()):
        raise _fault(name, f"weights between -{MOST_WEIGHT:g} and {MOST_WEIGHT:g}")
    return tuple(weights.items())


def _bias_token(name: str, token: Any) -> int | str:
    if isinstance(token, str):
        return int(token) if token.isascii() and token.isdigit() and len(token) < 10 else token
    return _integer(name, token)


def _scheduler(name: str, value: Any) -> str:
    return canonical(_text(name, value))


def _seed(name: str, value: Any) -> int:
    """Any integer: engines take as many of its low bits as they can, so that no two near seeds are one."""
    return int(_number(name, value, "integer"))


def _num_ctx(name: str, value: Any) -> int:
    num_ctx = _integer(name, value)
    if num_ctx < SMALLEST_NUM_CTX and num_ctx != 0:
        raise _fault(name, f"0 or at least {SMALLEST_NUM_CTX}")
    return num_ctx


def _between(low: float, high: float, read: Callable[[str, Any], float]) -> Callable[[str, Any], float]:
    def within(name: str, value: Any) -> float:
        number = read(name, value)
        if not low <= number <= high:
            raise _fault(name, f"between {low:g} and {high:g}")
        return number

    return within


_BY_TYPE: dict[Any, Callable[[str, Any], Any]] = {
    int: _integer,
    float: _float,
    bool: _boolean,
    int | None: _integer,
    float | None: _float,
    bool | None: _boolean,
    str | None: _text,
}
_SPECIAL: dict[str, Callable[[str, Any], Any]] = {
    "stop": _stop,
    "logit_bias": _logit_bias,
    "num_ctx": _num_ctx,
    "seed": _seed,
    "adapters": _adapters,
    "scheduler": _scheduler,
}


def _reader(name: str) -> Callable[[str, Any], Any]:
    """What reads the values of an option: by its name, its range or its type."""
    kind, option = TABLE[name]
    if name in _SPECIAL:
        return _SPECIAL[name]
    return _between(option.low, option.high, _BY_TYPE[kind]) if option.high < math.inf else _BY_TYPE[kind]


_READERS = {name: _reader(name) for name in TABLE}
