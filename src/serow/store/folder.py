"""Folders of pipelines as people have them: which of their files make the model, and why others are left out (PIC-02).

A part's weights may lie there several times: in several precisions, with and without moving averages, as pickles, as shards.
One whole set is taken, in this order: without a variant, fp16, bf16, fp32, any other, `non_ema`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from serow.errors import ModelFileError
from serow.store.tensors import FOLDER
from serow.system.folders import files_below

INDEX = "model_index.json"  # the file that makes a folder a pipeline
WEIGHTS = ".safetensors"
SINGLE = "_single"  # a folder of ours: weights of one file that take the place of those of parts
LORAS = "_lora"  # and one for the LoRA files over them
GGUF = ".gguf"
KINDS = (".json", WEIGHTS, ".txt", ".jinja", ".model")  # nothing that could hold code or a pickle
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
CONVERT = "keep only its .safetensors files, or convert it: DiffusionPipeline.from_pretrained(folder).save_pretrained(new)"
MOST_FILES = 20_000  # that a folder is looked through for
_DEEPEST = 4
_PART = re.compile(r"\w[\w .()+@-]{0,219}")
_SET = re.compile(
    r"(?P<stem>.+?)(?:\.(?P<variant>fp16|bf16|fp32|fp8|non_ema|ema|[a-z]\w{0,15}))?(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?"
    r"(?:\.(?P<late>fp16|bf16|fp32|non_ema|ema))?\.safetensors"
)
_LISTS = re.compile(r".+\.(?:safetensors|bin|msgpack)\.index(?:\.\w+)?\.json")
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model", "diffusion_model")
_VARIANTS = ("", "fp16", "bf16", "fp32", "ema")
_LAST = "non_ema"


@dataclass(frozen=True)
class Chosen:
    """The files that make the model, and a sentence for each thing that is left out."""

    kept: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass
class _Set:
    """One copy of a part's weights."""

    stem: str
    variant: str
    count: int = 1
    files: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return len(self.files) == self.count

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Its place among the others: the smaller, the better."""
        stem = _STEMS.index(self.stem) if self.stem in _STEMS else len(_STEMS)
        last = len(_VARIANTS) + (self.variant == _LAST)
        return not self.is_whole, stem, _VARIANTS.index(self.variant) if self.variant in _VARIANTS else last


def files_under(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its path in it; links are followed, circles not. Raises ModelFileError for too many."""
    found: dict[str, Path] = {}
    for _, name in files_below(str(folder), _DEEPEST + 1):
        path = Path(name)
        found[path.relative_to(folder).as_posix()] = path
        if len(found) > MOST_FILES:
            raise ModelFileError(f"the folder holds more than {MOST_FILES} files: it is no pipeline")
    return dict(sorted(found.items()))


def check_path(path: str) -> str:
    """A path within a pipeline; raises ModelFileError for one that leaves it, or for a kind of file that is not kept."""
    parts = path.split("/")
    if not 1 <= len(parts) <= _DEEPEST or not all(_PART.fullmatch(part) for part in parts):
        raise ModelFileError("file path must be relative")
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == GGUF and parts[0] == SINGLE:
        return path
    if suffix in PICKLES:
        raise ModelFileError(f"{path} could hold code: weights must be safetensors", hint=CONVERT)
    if suffix not in KINDS:
        raise ModelFileError(f"{path} is not a kind of file that a pipeline may have: {', '.join(KINDS)}")
    return path


def choose(paths: Iterable[str], named: Collection[str] | None = None) -> Chosen:
    """Which files of a folder make its model; raises ModelFileError for weights that are pickles only, or not whole.

    `named`: the parts that its index names, where that is known; others are left out.
    """
    ours = sorted(path for path in paths if _belongs(path))
    folders = dict.fromkeys(path.partition("/")[0] for path in ours if "/" in path)
    others = [] if named is None else [folder for folder in folders if folder not in (*named, SINGLE, LORAS)]
    parts: dict[str, list[str]] = defaultdict(list)
    kept, left_out = [], [f"the folder {folder} is left out: {INDEX} names no such part" for folder in others]
    for path in ours:
        part, slash, name = path.partition("/")
        if slash and part in others:
            continue
        if part in (SINGLE, LORAS):
            kept += [path] if part == SINGLE else []
            continue
        if slash and _is_weights(path) and not name.startswith(f"{FOLDER}/"):
            parts[part].append(path)
        elif not slash and _is_weights(path):
            left_out.append(f"{path} is left out: the parts have weights of their own, a LoRA goes with ADAPTER ./{path}")
        elif not _LISTS.fullmatch(path):
            kept.append(check_path(path))
    for part, files in parts.items():
        chosen, copies = _choose(part, files)
        kept += map(check_path, chosen)
        left_out += copies
    return Chosen(tuple(sorted(kept)), tuple(left_out))


def _belongs(path: str) -> bool:
    """Whether a file can be a part of a pipeline: pictures, programs and what is hidden are not."""
    is_text = "/" not in path and path != INDEX and not _is_weights(path)  # a README, a license
    if path.startswith(f"{SINGLE}/"):
        return path.endswith((WEIGHTS, GGUF))
    return PurePosixPath(path).suffix.lower() in (*KINDS, *PICKLES) and "/." not in f"/{path}" and not is_text


def _is_weights(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in (WEIGHTS, *PICKLES)


def _choose(part: str, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The weights of one part, and what is said of the others."""
    sets = sorted(_sets(files), key=lambda each: each.rank)
    pickles = [path for path in files if not path.endswith(WEIGHTS)]
    if not sets:
        raise ModelFileError(f"{pickles[0]} could hold code: weights must be safetensors", hint=CONVERT)
    best, *others = sets
    if not best.is_whole:
        raise ModelFileError(f"the part {part} has {len(best.files)} of the {best.count} files of its weights")
    said = [f"{each.files[0]} is left out: {best.files[0]} is taken" for each in others]
    return best.files, said + [f"{path} is left out: {best.files[0]} is taken" for path in pickles]


def _sets(files: Sequence[str]) -> list[_Set]:
    found: dict[tuple[str, str, int], _Set] = {}
    for path in files:
        match = _SET.fullmatch(path.rpartition("/")[2])
        if match is None or "/" in path.partition("/")[2]:
            continue
        variant, count = match["variant"] or match["late"] or "", int(match["count"] or 1)
        key = (match["stem"], variant, count)
        found.setdefault(key, _Set(*key)).files.append(path)
    return list(found.values())
