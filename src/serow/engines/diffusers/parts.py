"""One part of a pipeline, made of its settings and its weights, and refused when they do not fit each other.

diffusers and transformers fill what is missing with noise and leave out what is too much, with a line in the log: a picture
drawn with that is wrong, so here it is an error that names part, file and class.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device

from serow.engines.diffusers.installed import RENAMED
from serow.engines.diffusers.single import text_encoder_in, weights_in
from serow.engines.diffusers.weights import Lazies, weights_of
from serow.errors import LoadError

_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_QWEN_CHAT = (  # Qwen3's, for one turn: Ollama's image models come without it
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def class_of(part: str, library: str, name: str) -> Any:
    """The class that model_index.json names for a part; raises LoadError for one that the installed packages lack."""
    if library in ("diffusers", "transformers"):
        module: Any = diffusers if library == "diffusers" else transformers
    else:
        module = _module(library)
    found = getattr(module, RENAMED.get(name, name), None)
    if not isinstance(found, type):
        package = transformers if library == "transformers" else diffusers
        raise LoadError(f"the part {part} is a {name}, which {package.__name__} {package.__version__} does not have")
    return found


def _module(library: str) -> Any:
    try:
        return importlib.import_module(f"diffusers.pipelines.{library}")
    except ImportError:
        return None


def has_weights(kind: type) -> bool:
    """Whether parts of a class are networks."""
    return issubclass(kind, torch.nn.Module)


def load_network(folder: Path, kind: Any, dtype: torch.dtype, single: Path | None = None) -> Any:
    """A network of a folder's config.json and its weights, which are in a `single` file where the folder has none.

    Raises LoadError when they do not fit each other.
    """
    weights = weights_of(folder, dtype)
    if not weights and single is None:
        raise LoadError(f"the part {folder.name} has no weights")
    if issubclass(kind, transformers.PreTrainedModel):
        return _of_transformers(folder, kind, weights, dtype, single)
    return _of_diffusers(folder, kind, weights, dtype, single)


def load_settings(folder: Path, kind: Any) -> Any:
    """A part without weights: a scheduler, a tokenizer, what prepares pictures."""
    part = kind.from_pretrained(folder, local_files_only=True)
    if isinstance(part, transformers.PreTrainedTokenizerBase) and not part.chat_template and "<|im_start|>" in part.get_vocab():
        part.chat_template = _QWEN_CHAT
    return part


def _of_transformers(folder: Path, kind: Any, weights: Lazies, dtype: torch.dtype, single: Path | None) -> Any:
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    if not weights and single is not None:
        weights = text_encoder_in(single, folder.name, config, dtype)
    if getattr(config, "quantization_config", None):
        raise _quantized(folder.name, config.quantization_config)
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=dtype,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    mismatched = ((name, found, wanted) for name, found, wanted in report["mismatched_keys"])
    _check(folder.name, kind, report["missing_keys"], report["unexpected_keys"], mismatched, model.state_dict())
    return model


def _of_diffusers(folder: Path, kind: Any, weights: Lazies, dtype: torch.dtype, single: Path | None) -> Any:
    config = kind.load_config(folder, local_files_only=True)
    if config.get("quantization_config"):
        raise _quantized(folder.name, config["quantization_config"])
    with init_empty_weights():
        model = kind.from_config(config)
    if not weights and single is not None:
        weights = weights_in(single, folder.name, model, config, dtype)
    assign(model, folder.name, weights, dtype)
    return model.eval()


def assign(model: Any, part: str, weights: Lazies, dtype: torch.dtype) -> None:
    """Give an empty network of diffusers its weights; raises LoadError when they do not fit it."""
    model._fix_state_dict_keys_on_load(weights)
    wanted = model.state_dict()
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    unexpected = [name for name in weights if name not in wanted and not any(each.search(name) for each in ignored)]
    both = [(name, tensor.shape, tuple(wanted[name].shape)) for name, tensor in weights.items() if name in wanted]
    mismatched = ((name, found, shape) for name, found, shape in both if found != shape)
    _check(part, type(model), wanted.keys() - weights.keys(), unexpected, mismatched, wanted)
    exact = set(model._keep_in_fp32_modules or ())
    for name, _, _ in both:
        is_exact = exact and not exact.isdisjoint(name.split("."))
        tensor = weights[name][...]
        kept = tensor.dtype if not tensor.is_floating_point() else torch.float32 if is_exact else dtype
        set_module_tensor_to_device(model, name, "cpu", value=tensor, dtype=kept, clear_cache=False)


def _check(
    part: str,
    kind: type,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Any, Any]],
    wanted: Mapping[str, Any],
) -> None:
    """Refuse weights that are not those of the settings."""
    what = f"the part {part} ({kind.__name__})"
    for name, found, shape in sorted(mismatched, key=lambda each: each[0]):
        raise LoadError(f"{what} does not fit its config.json: {name} is {_sides(found)}, not {_sides(shape)}")
    if lost := sorted(missing):
        raise LoadError(f"{what} lacks {len(lost)} of its {len(wanted)} tensors: {lost[0]} is missing")
    if surplus := sorted(_of_its_kind(unexpected, wanted)):
        raise LoadError(f"{what} does not fit its config.json, which has no place for {surplus[0]}")


def _of_its_kind(unexpected: Iterable[str], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Tensors that differ from wanted ones in a number only: layers that would be left out; and scales of weights."""
    kinds = {_NUMBER.sub(".N", name) for name in wanted}
    for name in unexpected:
        if _NUMBER.sub(".N", name) in kinds or name.endswith(("scale_weight", "scaled_fp8", "weight_scale")):
            yield name


def _sides(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _quantized(part: str, config: Any) -> LoadError:
    method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
    return LoadError(
        f"the part {part} is quantized with {getattr(method, 'value', method) or 'another library'}, which is not read here"
    )
