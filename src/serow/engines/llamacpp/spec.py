"""What a llama.cpp server is started with, whichever engine it is; `llama_params` and `llama_flags` spell it out."""

import os
from functools import cache
from typing import NamedTuple

import psutil
from msgspec import Struct

DEFAULT_BATCH = 512
ERRORS, BUFFERS = 1, 4  # what an engine logs: failures; what it loads, too, and with which buffers
_BLOCK = 256  # tokens
SMALLEST_BATCH = 32  # below the number of slots, or 2, the engine aborts
_SLACK = 1 << 30  # bytes
NUM_GUESS = 8  # tokens that a smaller model guesses at once, where nothing else is asked for, as long as it is sure of them
NUM_DRAFT = 15  # tokens that are guessed at once: of eight slots as many as a batch of 128 takes in
_NUM_LOOKUP = 8  # tokens that must have stood in the text before; with fewer, other texts became slower (measured)

ENVIRON = {
    "GGML_NO_BACKTRACE": "1",  # an abort would start a debugger
    # How long threads spin for each other before they sleep. The default of 300,000 lets an engine that shares its cores with
    # another, or with us, decode at a tenth of the speed (measured); 1,000 costs nothing where it has them for itself.
    "GOMP_SPINCOUNT": "1000",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # cards are counted as their driver counts them
}


class LlamaSpec(Struct, frozen=True, kw_only=True):
    """A model and how to serve it, every number within what the engine can bear. `kind` names the engine's."""

    kind: str
    executable: str  # "" for the wheel
    has_gpu: bool | None  # None: to be asked
    weights: str
    projector: str
    num_ctx: int  # tokens for each slot
    num_parallel: int
    num_batch: int
    cpu_batch: int  # what it is held to on a CPU
    num_gpu: int
    main_gpu: int
    devices: tuple[str, ...] | None = None  # that hold the layers, () for none; None: nobody has planned, the engine guesses
    tensor_split: tuple[int, ...] = ()  # layers on each of them
    use_mmap: bool | None
    num_thread: int  # that decode one stream
    num_thread_batch: int  # that read prompts, and decode several streams
    prompt_cache: int  # MiB of memory for prompts that left their slot
    memory_limit: int = 0  # bytes that it may hold beside mapped files, 0 for no limit
    flash_attention: bool | None  # None: as the engine decides
    num_draft: int  # 0: nothing that stood there before is guessed
    draft: str = ""  # the file of a smaller model that guesses, "" for none
    num_guess: int = 0  # that it guesses at once
    cache_type: str = "f16"  # of keys and values
    repack: bool = False  # the weights are laid out anew, in memory of the engine's own
    chat_template: str = ""  # in place of the model file's own, "" for that
    adapters: tuple[str, ...] = ()  # LoRA files, applied one after the other
    slots: str  # the directory that slots are saved to and restored from, "" for none
    pooling: str = ""  # how the vectors of tokens become one: "model" as the file says, "mean"; "" for a model that completes

    @property
    def flash_attention_word(self) -> str:
        """As engines and people say it: auto, on, off."""
        return {None: "auto", True: "on", False: "off"}[self.flash_attention]


@cache
def prompt_cache_size() -> int:
    """Bytes that one engine may spend on the key-value states of prompts that left their slot, where there is room."""
    return min(1 << 30, int(psutil.virtual_memory().total) // 32)


def memory_limit(planned: int, prompt_cache: int) -> int:
    """Bytes of its own that an engine may hold for which so many are planned: far more than it should need; 0 is no limit.

    It ends what nobody plans, such as a model's chat template that makes a list without end.
    """
    return 2 * planned - prompt_cache + _SLACK if planned else 0


def usable_cores() -> int:
    """Cores that this process may use, hyper-threads counted each: more threads would only wait for one another."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once: decoding gains nothing from the second one."""
    return min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores())


def batch_size(spec: LlamaSpec, *, has_gpu: bool) -> int:
    """Tokens of prompts that the engine takes in at once; a picture's must fit in whole, and so must a text to embed."""
    if spec.pooling:
        return max(spec.num_ctx, DEFAULT_BATCH)
    if spec.projector:
        return max(spec.num_batch, DEFAULT_BATCH)
    if has_gpu and spec.num_gpu != 0 and spec.devices != ():
        return spec.num_batch
    return min(spec.num_batch, max(spec.cpu_batch, spec.num_parallel * (1 + max(spec.num_draft, spec.num_guess))))


class DraftSizes(NamedTuple):
    """Tokens: that have to have stood there before, what followed them, and what a smaller model guesses."""

    lookup: int
    follow: int
    guess: int

    @property
    def most(self) -> int:
        """How many are guessed at once."""
        return max(self.follow, self.guess)


def draft_sizes(spec: LlamaSpec, batch: int) -> DraftSizes:
    """What fits in a batch with the guesses of all slots: engines can't split them."""
    most = max(0, batch // spec.num_parallel - 1)
    follow = min(spec.num_draft, most)
    return DraftSizes(min(_NUM_LOOKUP, follow), follow, min(spec.num_guess, most))


def whole_blocks(num_ctx: int) -> int:
    """A context in tokens as llama.cpp will have it: rounded up."""
    return -(-num_ctx // _BLOCK) * _BLOCK
