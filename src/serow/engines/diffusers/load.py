"""A diffusers pipeline, loaded from its files. Imported in the child only: torch takes seconds."""

import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from serow.engines.diffusers.adapters import load_adapters
from serow.engines.diffusers.memory import Plan, hold_to_free_memory, is_out_of_memory, plan, shortage
from serow.engines.diffusers.parts import class_of, has_weights, load_network, load_settings
from serow.engines.diffusers.pipeline import Pipeline
from serow.engines.diffusers.protocol import ImageSpec
from serow.errors import LoadError
from serow.store.pipeline import Index, loras_of, read_index, single_of

_NONE = inspect.Parameter.empty
LOAD_ERRORS = (  # what loading files that are broken or do not fit together is known to raise
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, MemoryError, ArithmeticError,
    AssertionError, SafetensorError,
)  # fmt: skip


def load(spec: ImageSpec, count: int) -> Pipeline:
    """Load a pipeline of `count` parameters without network, code or pickle from the folder. Blocks for seconds to minutes.

    Raises LoadError, and whatever diffusers raises about files that do not fit together.
    """
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    if spec.num_thread > 0:
        torch.set_num_threads(spec.num_thread)
    chosen = plan(count, spec)
    hold_to_free_memory(chosen.device)
    pipe = build(Path(spec.folder), chosen.dtype)
    pipe.set_progress_bar_config(disable=True)
    adapters = load_adapters(pipe, loras_of(Path(spec.folder)))
    _place(pipe, chosen)
    _tell(chosen.device)
    return Pipeline(pipe, chosen.device, name=spec.name, adapters=adapters)


def _tell(device: str) -> None:
    """Say on stderr what the weights take of a device, as engines do: `llamacpp.report` reads it."""
    held = torch.cuda.memory_reserved(device) if device.startswith("cuda") else 0
    if device == "mps":
        held = torch.mps.driver_allocated_memory()
    if held:
        print(f"{device} model buffer size = {held / (1 << 20):.2f} MiB", file=sys.stderr, flush=True)


def build(folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline of a folder, its networks in main memory; raises LoadError."""
    index = read_index(folder)
    kind = getattr(diffusers, index.family, None)
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        raise LoadError(f"the model is a {index.family}, which diffusers {diffusers.__version__} does not have")
    wanted = inspect.signature(kind).parameters
    single = single_of(folder)
    parts = {name: _part(folder / name, *entry, dtype, single) for name, entry in index.parts.items() if name in wanted}
    optional = [name for name in getattr(kind, "_optional_components", ()) if name in wanted and wanted[name].default is _NONE]
    given = {
        **dict.fromkeys(optional),
        **{name: value for name, value in index.settings.items() if name in wanted},
        **dict.fromkeys(index.absent),
        **parts,
    }
    given = {name: value for name, value in given.items() if name in wanted}
    _check_parts(index, wanted, given)
    return kind(**given)


def _check_parts(index: Index, wanted: Any, given: dict[str, Any]) -> None:
    """Refuse a pipeline that lacks a part which its class does not do without."""
    for name, parameter in wanted.items():
        is_needed = parameter.default is _NONE and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if is_needed and name not in ("self", *given):
            raise LoadError(f"the model is a {index.family} without the part {name}")


def _part(folder: Path, library: str, name: str, dtype: torch.dtype, single: Path | None) -> Any:
    kind = class_of(folder.name, library, name)
    try:
        if has_weights(kind):
            return load_network(folder, kind, dtype, single)
        return load_settings(folder, kind)
    except LOAD_ERRORS as error:
        if is_out_of_memory(error):
            raise
        traceback.print_exception(error)
        raise LoadError(f"the files of the part {folder.name} ({name}) can't be loaded: {type(error).__name__}") from error


def explain_load(error: Exception) -> str:
    """Why the pipeline could not be loaded, without paths and the libraries' own words."""
    if is_out_of_memory(error):
        return f"the model needs {shortage(error)}"
    if isinstance(error, ImportError):
        return "the model needs a package that is not installed"
    if isinstance(error, SafetensorError):
        return "the model's weights are broken"
    return f"the model's files do not make a pipeline that can be loaded ({type(error).__name__})"


def _place(pipe: Any, chosen: Plan) -> None:
    """Put the weights where they are to be used; slice the work where memory is short."""
    if chosen.is_offloaded:
        pipe.enable_model_cpu_offload(device=chosen.device)
    else:
        pipe.to(chosen.device)
    if chosen.is_short:
        pipe.enable_attention_slicing()
        for name in ("enable_slicing", "enable_tiling"):
            getattr(getattr(pipe, "vae", None), name, lambda: None)()
