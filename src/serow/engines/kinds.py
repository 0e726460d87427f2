"""The engines that can serve a language model: how each is started, and what it lacks.

All of them speak llama.cpp's HTTP protocol. `KINDS` is the one place that knows how they differ; an `Engine` is one of them
as it lies on this machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from serow.engines.child import Listen
from serow.engines.llamacpp.flags import ik_flags, llama_cpp_flags
from serow.engines.llamacpp.spec import LlamaSpec
from serow.errors import NotFound
from serow.settings import CacheType

MAX_SLOTS = 8  # eight batched streams give the best throughput on a CPU


class Feature(StrEnum):
    """What a request may need and not every engine has; the value goes on behind "the engine can't"."""

    LLGUIDANCE = "hold the text to this format"
    VISION = "see pictures"
    EMBEDDINGS = "embed texts"


class FlagSet(Struct, frozen=True):
    """How an engine is started where there is a choice. It is checked, and chosen, as a whole."""

    flash_attention: bool | None = None  # None: as the engine itself decides
    num_parallel: int = MAX_SLOTS  # most slots
    num_thread: int = 0  # that decode one stream; 0: all that the model has
    drafts: bool = False  # guess at the next tokens of a text that repeats itself; a built engine only
    repack: bool = False  # lay the weights out for this CPU while they are read, into memory of the engine's own; ik only
    draft_model: bool = False  # guess with the smaller model that the model names; llama.cpp only
    cache_type: CacheType = "f16"  # of keys and values

    @property
    def guesses(self) -> bool:
        """Whether it puts tokens to the model that nobody has sampled."""
        return self.drafts or self.draft_model

    @property
    def is_last_resort(self) -> bool:
        """Whether it only leaves out what an engine may be wrong with: a set that has it and passes is the better one."""
        return self.flash_attention is False or self.num_parallel == 1


DEFAULT_FLAGS = FlagSet()


@dataclass(frozen=True)
class Kind:
    """One kind of engine. `flags` makes the arguments of its executable; the wheel has none and is a module of ours."""

    name: str
    flags: Callable[[LlamaSpec, Listen, bool], Iterator[str]] | None = None
    lacks: frozenset[Feature] = frozenset()
    flag_sets: tuple[FlagSet, ...] = (DEFAULT_FLAGS,)  # those worth a check, what asks most of the engine first
    draft_flags: tuple[FlagSet, ...] = ()  # and, of a model that names a smaller one to guess for it, these before them
    unchecked: tuple[FlagSet, ...] = (DEFAULT_FLAGS,)  # that it bears without a check, the best first
    has_unix_sockets: bool = True
    is_endless: bool = True  # whether it takes -1 tokens as without end
    # Tokens of prompts taken in at once on a CPU. An engine hears of a client that left between two batches; larger ones gain
    # nothing, or little (measured: with 64 llama.cpp is at 0.95 of its best; ik at 0.70, with 128 at 0.90).
    cpu_batch: int = 64
    takes_last_slot: bool = True  # for a new prompt, of slots that were never used; else the first

    def next_to_try(
        self,
        tried: Mapping[FlagSet, bool],
        settle: Callable[[FlagSet], FlagSet] = lambda flags: flags,
        *,
        has_draft: bool = False,
    ) -> FlagSet | None:
        """The next flag set that is worth a check, None when enough is known. `tried`: which were, and whether they passed.

        `settle` makes of each what the settings leave of it. `has_draft`: the model names a smaller one that can guess for it.
        """
        is_enough = any(tried.values())
        wanted = dict.fromkeys(map(settle, (*(self.draft_flags if has_draft else ()), *self.flag_sets)))
        left = (flags for flags in wanted if flags not in tried)
        return next((flags for flags in left if not (is_enough and flags.is_last_resort)), None)


WHEEL_KIND = Kind("wheel")
LLAMA_CPP = Kind(
    "llama.cpp",
    flags=llama_cpp_flags,
    lacks=frozenset({Feature.LLGUIDANCE, Feature.EMBEDDINGS}),
    flag_sets=(FlagSet(True, drafts=True, cache_type="q8_0"), FlagSet(drafts=True), DEFAULT_FLAGS, FlagSet(False)),
    draft_flags=(FlagSet(drafts=True, draft_model=True),),
)
IK = Kind(
    "ik",
    flags=ik_flags,
    lacks=frozenset(Feature),
    flag_sets=(
        FlagSet(True, drafts=True, repack=True, cache_type="q8_0"),
        FlagSet(True, drafts=True, repack=True),
        FlagSet(True, repack=True),
        FlagSet(True, drafts=True),
        FlagSet(True),
        FlagSet(False),
        FlagSet(True, 1),
    ),
    unchecked=(FlagSet(True, 1), FlagSet(False)),
    has_unix_sockets=False,
    is_endless=False,
    cpu_batch=128,
    takes_last_slot=False,
)
KINDS = {kind.name: kind for kind in (WHEEL_KIND, LLAMA_CPP, IK)}


@dataclass(frozen=True)
class Engine:
    """An engine on this machine. `build` changes with every other build of it; what was checked holds for one build."""

    kind: Kind
    build: str = ""
    executable: Path | None = None
    has_gpu: bool | None = None  # None: its executable can tell

    @property
    def name(self) -> str:
        """The name that people choose it by."""
        return self.kind.name

    def can(self, needs: frozenset[Feature]) -> bool:
        """Whether it has all that a request needs."""
        return not needs & self.kind.lacks


VLLM = Kind("vllm", lacks=frozenset({Feature.VISION, Feature.EMBEDDINGS}), flag_sets=())  # for models of safetensors alone
REMOTE = Engine(Kind("remote", lacks=frozenset({Feature.VISION})))  # at an address; no engine that a model here can get
WHEEL = Engine(WHEEL_KIND, version("xllamacpp"))


def find_kind(name: str) -> Kind:
    """The kind of that name; raises NotFound with the names that there are."""
    if name not in KINDS:
        raise NotFound(f"there is no engine '{name}'", hint=f"engines: {', '.join(KINDS)}")
    return KINDS[name]
