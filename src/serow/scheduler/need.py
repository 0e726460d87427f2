"""How much memory a model needs, layer by layer: an estimate, until a load has shown what it takes.

A device that works for a model holds whole layers, each with its share of the cache, and one buffer to work in, however many
layers it holds. The numbers of that buffer are llama.cpp's own, measured: it grows with the tokens of a prompt that are read
at once, and with the context that each of them may look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from serow.devices.device import Kind
from serow.devices.use import Use
from serow.engines.attention import packed
from serow.engines.kinds import DEFAULT_FLAGS, FlagSet
from serow.engines.llamacpp.spec import DEFAULT_BATCH
from serow.options import LoadOptions
from serow.store.layers import Layers
from serow.store.model import Model

PROCESS = 64 << 20  # bytes of an engine beside weights and contexts; measured: 27 MiB to 148 MiB
PIPELINE_PROCESS = 384 << 20  # of one that draws: torch and diffusers; measured: 324 MiB
VLLM_PROCESS = 2 << 30  # of a vLLM: torch, in three processes
_VLLM_WORKS_IN = 1 << 30  # bytes that it takes of a device beside weights and cache, and a part of the weights: a guess
_VLLM_PART = 16
_NUMBER, _MASK = 4, 2  # bytes of a number that is computed, and of one token's word whether it sees another
_DRAWING = 2  # a picture takes one part in so many of its model's weights to be drawn, until one was
_LARGEST = 7  # tenths of a pipeline's weights that its largest part has at most, as a rule: the rest can wait for its turn
_BLOCK = 256  # tokens that a cache grows by
# What a driver takes of its device for a process, beside what that allocates: a guess, until a load was measured.
_CONTEXT: dict[Kind, int] = {"cuda": 400 << 20, "rocm": 400 << 20, "sycl": 200 << 20, "vulkan": 32 << 20}


@dataclass(frozen=True)
class Need:
    """Bytes. The last of the layers is the output. `first`, `first_cache`: on the first device besides.

    `host`: in main memory in any case.
    """

    weights: tuple[int, ...]
    cache: tuple[int, ...]
    compute: int
    first: int = 0
    first_cache: int = 0
    host: int = 0

    @property
    def beside(self) -> int:
        """What the first device holds beside layers."""
        return self.first + self.first_cache

    @property
    def count(self) -> int:
        """How many layers a device can hold."""
        return len(self.weights)

    def layers(self, number: int) -> list[int]:
        """What each of the last `number` layers takes, which are those that go to a device."""
        return self._all[self.count - number :]

    def ends(self, number: int) -> list[int]:
        """Where each of the last `number` layers ends when one is laid behind the other, 0 first."""
        if number not in self._ends:
            self._ends[number] = list(accumulate(self.layers(number), initial=0))
        return self._ends[number]

    def least(self, number: int) -> list[int]:
        """What so many of the last `number` layers take at least: none, the smallest, the two smallest."""
        if number not in self._least:
            self._least[number] = list(accumulate(sorted(self.layers(number)), initial=0))
        return self._least[number]

    def total(self, number: int) -> int:
        """What the last `number` layers take together."""
        return self._from_the_end[number]

    @cached_property
    def _least(self) -> dict[int, list[int]]:
        return {}

    @cached_property
    def _ends(self) -> dict[int, list[int]]:
        return {}

    @cached_property
    def _all(self) -> list[int]:
        return [weights + cache for weights, cache in zip(self.weights, self.cache, strict=True)]

    @cached_property
    def _from_the_end(self) -> list[int]:
        return list(accumulate(reversed(self._all), initial=0))

    def main(self, number: int) -> int:
        """Bytes of main memory with so many layers on devices."""
        rest = self.total(self.count) - self.total(number)
        return self.host + rest + (self.compute if number < self.count else 0)


@dataclass
class Lessons:
    """What loads have taken beyond, or below, their estimate; by model and by kind of device."""

    compute: dict[tuple[object, ...], int] = field(default_factory=dict)  # bytes to add for the buffer to work in
    spare: dict[tuple[object, ...], int] = field(default_factory=dict)  # bytes that were missing at work
    context: dict[Kind, int] = field(default_factory=lambda: dict(_CONTEXT))

    def learn(self, key: tuple[object, ...], planned: Sequence[Use], taken: Sequence[Use]) -> None:
        """Remember what the buffers came to: the largest one counts, for each device has the same."""
        if planned and taken:
            more = max(use.compute for use in taken) - max(use.compute for use in planned)
            _add(self.compute, key, more + self.spare.get(key, 0))

    def fall_short(self, key: tuple[object, ...], more: int) -> None:
        """So many bytes more are to be free besides, whatever its buffers come to: it ran out of memory at work."""
        _add(self.spare, key, more)

    def lesson(self, key: tuple[object, ...]) -> int:
        """Bytes that a model is planned with beyond its estimate."""
        return self.compute.get(key, 0) + self.spare.get(key, 0)


def _add(known: dict[tuple[object, ...], int], key: tuple[object, ...], more: int) -> None:
    known[key] = known.pop(key, 0) + more
    if len(known) > _MOST_LESSONS:
        del known[next(iter(known))]


_MOST_LESSONS = 1024


def estimate(model: Model, options: LoadOptions, num_parallel: int, lesson: int = 0, flags: FlagSet = DEFAULT_FLAGS) -> Need:
    """What a model takes with such a context and so many slots; `lesson` bytes more to work in than is usual."""
    if model.is_image:
        largest = model.size * _LARGEST // 10
        compute = max(0, model.size // _DRAWING + lesson)
        return Need((model.size - largest, largest), (0, 0), compute, host=PIPELINE_PROCESS)
    if not model.layers.count:
        cache = cache_bytes(model, flags) * options.num_ctx * num_parallel
        compute = _VLLM_WORKS_IN + model.size // _VLLM_PART if model.is_vllm else 0
        return Need((model.size,), (cache,), max(0, compute + lesson), host=process_of(model))
    batch = min(max(options.num_batch, 1), DEFAULT_BATCH)
    has_flash_attention = flags.flash_attention is not False
    compute = batch * _worked_in(model.layers, model.embedding_length, options.num_ctx, has_flash_attention=has_flash_attention)
    guesser = _guessing(model, options.num_ctx, batch, flags)
    return Need(
        weights=(*model.layers.blocks, model.layers.output),
        cache=(*(num_parallel * size for size in _cache(model.layers, options.num_ctx, batch, flags)), 0),
        compute=max(0, compute + lesson),
        first=model.projector_size + guesser.first,
        first_cache=num_parallel * guesser.first_cache,
        host=PROCESS + model.layers.input + num_parallel * model.vocab_size * _NUMBER + guesser.host,
    )


def _guessing(model: Model, num_ctx: int, batch: int, flags: FlagSet) -> Need:
    """What a smaller model that guesses takes besides, its cache for one slot: it lies on one device as a whole."""
    draft = model.draft if flags.draft_model else None
    if draft is None:
        return Need((), (), 0)
    layers = draft.layers
    has_flash_attention = flags.flash_attention is not False
    worked_in = _worked_in(layers, draft.embedding_length, num_ctx, has_flash_attention=has_flash_attention)
    return Need(
        (),
        (),
        0,
        first=sum(layers.blocks) + layers.output + batch * worked_in,
        first_cache=sum(_cache(layers, num_ctx, batch, flags)),
        host=layers.input,
    )


def cache_bytes(model: Model, flags: FlagSet) -> int:
    """Bytes of keys and values for one token of context, those of a smaller model that guesses with them."""
    guessed = model.draft.kv_bytes if model.draft and flags.draft_model else 0
    return packed(model.kv_bytes + guessed, flags)


def process_of(model: Model) -> int:
    """Bytes of an engine's process beside weights and contexts."""
    if model.is_image:
        return PIPELINE_PROCESS
    return VLLM_PROCESS if model.is_vllm else PROCESS


def _worked_in(layers: Layers, embedding_length: int, num_ctx: int, *, has_flash_attention: bool) -> int:
    """Bytes for one token of a prompt. Without flash attention each head looks at the whole context at once."""
    if has_flash_attention:
        return layers.width * _NUMBER + num_ctx * _MASK
    looking = 13 * embedding_length // 2 + num_ctx * (layers.heads + 1)
    return max(layers.width, looking) * _NUMBER


def _cache(layers: Layers, num_ctx: int, batch: int, flags: FlagSet) -> list[int]:
    """Bytes of each block's keys and values for one slot; what looks back over a window keeps that and a batch."""

    def bytes_of(size: int, window: int) -> int:
        return packed(size, flags) * (min(num_ctx, -(-(window + batch) // _BLOCK) * _BLOCK) if window else num_ctx)

    blocks = list(zip(layers.cache, layers.windows, strict=True))
    of_each = {block: bytes_of(*block) for block in set(blocks)}  # most are alike
    return [of_each[block] for block in blocks]
