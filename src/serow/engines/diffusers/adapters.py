"""LoRA files over a pipeline: loaded under their names, and refused when they do not fit. Imported in the child only.

diffusers reads the layouts of its own, of kohya, of peft and others; what finds no place it leaves out with a line in the log:
here every pair is looked up before it is loaded.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

from serow.errors import LoadError

_HALF = re.compile(  # in each of the ways that diffusers writes it
    r"(?P<part>[a-z_0-9]+)\.(?P<module>.+?)(?:\.lora_|\.lora\.|\.lora_linear_layer\.|_lora\.)(?P<half>A|B|down|up)(?:\.default)?\.weight"
)

_DENOISERS = ("unet", "transformer")
_OUT = re.compile(r"\.to_out$")
_LOCAL = {"local_files_only": True, "use_safetensors": True}


def load_adapters(pipe: Any, files: Mapping[str, Path]) -> dict[str, float]:
    """Load LoRA files by their names; returns the weight that each has then. Raises LoadError for one that does not fit."""
    if files and not hasattr(pipe, "load_lora_weights"):
        raise LoadError(f"a {type(pipe).__name__} takes no LoRA")
    for name, path in files.items():
        state, *others = _read(pipe, name, path)
        _check(pipe, name, state)
        if not any(others) and _is_mixed(state):
            pipe.load_lora_weights(_of_one_naming(state), adapter_name=name)
        else:
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name, **_LOCAL)
        _check_loaded(pipe, name, state)
    if files:
        pipe.set_adapters(list(files), [1.0] * len(files))
    return dict.fromkeys(files, 1.0)


def _read(pipe: Any, name: str, path: Path) -> tuple[dict[str, Any], ...]:
    """The tensors of a LoRA under the names of diffusers; behind them scales and settings, where the file has any."""
    try:
        given = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
        found = pipe.lora_state_dict(str(path.parent), weight_name=path.name, return_lora_metadata=True, **given, **_LOCAL)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise LoadError(f"the adapter {name} is not a LoRA that a {type(pipe).__name__} can take") from error
    state, *others = found if isinstance(found, tuple) else (found,)
    return dict(state), *others


def _is_mixed(state: Mapping[str, Any]) -> bool:
    """Whether layers of denoisers are named in peft's way and in another: diffusers goes by the first one, for all of them."""
    return len({match["half"] in ("A", "B") for match in _halves(state) if match["part"] in _DENOISERS}) > 1


def _of_one_naming(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same tensors, those of denoisers under peft's names."""
    denoisers = {name: tensor for name, tensor in state.items() if name.startswith(_DENOISERS)}
    others = {name: tensor for name, tensor in state.items() if name not in denoisers}
    return {**convert_unet_state_dict_to_peft(denoisers), **others}


def _check(pipe: Any, name: str, state: Mapping[str, Any]) -> None:
    """Raise LoadError unless every half has a layer in the pipeline, of its sides."""
    halves = _halves(state)
    if not halves:
        raise LoadError(f"the adapter {name} does not fit the model: it changes none of its layers")
    layers = {match["part"]: dict(_layers(getattr(pipe, match["part"], None))) for match in halves}
    for match in halves:
        module = match["module"].replace(".processor.", ".")
        sides = layers[match["part"]].get(_OUT.sub(".to_out.0", module)) or layers[match["part"]].get(module)
        tensor = state[match.string]
        if sides is None:
            raise LoadError(f"the adapter {name} does not fit the model: its {match['part']} has no layer {module}")
        rows, columns = sides
        found, wanted = (tensor.shape[1], columns) if match["half"] in ("A", "down") else (tensor.shape[0], rows)
        if found != wanted:
            place = f"{match['part']}.{module}"
            raise LoadError(f"the adapter {name} does not fit the model: {place} has {wanted} numbers where it has {found}")


def _check_loaded(pipe: Any, name: str, state: Mapping[str, Any]) -> None:
    """Raise LoadError where diffusers has left out layers, as it does when a file names them in two ways."""
    layers = {(match["part"], match["module"]) for match in _halves(state)}
    for part, wanted in Counter(part for part, _ in layers).items():
        modules = getattr(pipe, part).modules()
        found = sum(name in getattr(module, "lora_A", ()) for module in modules)
        if found < wanted:
            raise LoadError(
                f"the adapter {name} does not fit the model: of {wanted} layers of its {part} only {found} could be changed",
                hint="a file that names its layers in two ways is read in part: save it anew",
            )


def _halves(state: Mapping[str, Any]) -> list[re.Match[str]]:
    """What the names of tensors say that are half of a change of a layer."""
    return [match for key in state if (match := _HALF.fullmatch(key))]


def _layers(part: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """The layers of a part that a LoRA can change, with rows and columns."""
    for name, module in part.named_modules() if hasattr(part, "named_modules") else ():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim in (2, 4):
            name, sides = name.removesuffix(".base_layer"), tuple(weight.shape[:2])
            yield name, sides
            yield f"text_model.{name}", sides  # what transformers called the layers of a text encoder
