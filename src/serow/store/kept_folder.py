"""A text model's folder of safetensors that stays as it is, for an engine that reads such files itself: vLLM (REM-07)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from serow.errors import ModelFileError
from serow.store import text_folder
from serow.store.manifest import Config
from serow.store.remote import TOKENIZER
from serow.store.safetensors import count_types
from serow.store.weights import human_count

_HINT = "--quantize F16 makes a GGUF of it, where that can be done"
_SHARD = re.compile(r".*-(\d{5})-of-(\d{5})\.safetensors", re.ASCII)
Shapes = Mapping[str, tuple[str, list[int]]]


def checked(files: Mapping[str, str], config: Any, shapes: Sequence[Shapes]) -> Config:
    """What the model is, by its config.json and the heads of its weights.

    Raises ModelFileError for what vLLM could not run, or only with a program that the folder brings.
    """
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelFileError(f"{text_folder.CONFIG} names no architecture")
    if "auto_map" in config:
        raise ModelFileError("the model needs a program of its own (auto_map in config.json), which is not run")
    if TOKENIZER not in files:
        raise ModelFileError(f"the folder has no {TOKENIZER}: prompts are made and counted here", hint=_HINT)
    for path in files:
        if not text_folder.belongs(path):
            raise ModelFileError(f"{path} is not a file of a text model's folder", hint=_HINT)
    _check_shards(files)
    counts: Counter[str] = Counter()
    for each in shapes:
        counts.update(count_types(each))
    family = config.get("model_type")
    return Config(
        model_format="safetensors",
        model_family=family if isinstance(family, str) else None,
        model_families=[family] if isinstance(family, str) else None,
        model_type=human_count(counts.total()),
        file_type=max(counts, key=counts.__getitem__, default="unknown"),
    )


def _check_shards(files: Mapping[str, str]) -> None:
    found = [match for path in files if (match := _SHARD.fullmatch(path))]
    count = max((int(match[2]) for match in found), default=0)
    if len(found) != count:
        raise ModelFileError(f"the folder has {len(found)} of the {count} files of its weights")
