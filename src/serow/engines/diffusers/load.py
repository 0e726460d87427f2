"""A diffusers pipeline, loaded from its files. Imported in the child only: torch takes seconds."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from serow.engines.diffusers.memory import Plan, hold_to_free_memory, is_out_of_memory, plan, shortage
from serow.engines.diffusers.pipeline import Pipeline
from serow.engines.diffusers.protocol import ImageSpec

LOAD_ERRORS = (  # what loading files that are broken or do not fit together is known to raise
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, MemoryError, SafetensorError,
)  # fmt: skip


def load(spec: ImageSpec, count: int) -> Pipeline:
    """Load a pipeline of `count` parameters without network, code or pickle from the folder. Blocks for seconds to minutes.

    Raises LoadError, and whatever diffusers raises about files that do not fit together.
    """
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    if spec.num_thread > 0:
        torch.set_num_threads(spec.num_thread)
    folder = Path(spec.folder)
    chosen = plan(count, num_gpu=spec.num_gpu, main_gpu=spec.main_gpu)
    hold_to_free_memory(chosen.device)
    pipe = DiffusionPipeline.from_pretrained(
        folder,
        dtype=chosen.dtype,
        variant=_variant(folder),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    pipe.set_progress_bar_config(disable=True)
    _place(pipe, chosen)
    return Pipeline(pipe, chosen.device, name=spec.name)


def explain_load(error: Exception) -> str:
    """Why the pipeline could not be loaded, without paths and the libraries' own words."""
    if is_out_of_memory(error):
        return f"the model needs {shortage(error)}"
    if isinstance(error, ImportError):
        return "the model needs a package that is not installed"
    if isinstance(error, SafetensorError):
        return "the model's weights are broken"
    return f"the model's files do not make a pipeline that can be loaded ({type(error).__name__})"


def _variant(folder: Path) -> str | None:
    """ "fp16" when a component has its weights in that form only."""
    halves = folder.rglob("*.fp16*.safetensors")
    plain = {path.parent for path in folder.rglob("*.safetensors") if ".fp16" not in path.name}
    return "fp16" if any(path.parent not in plain for path in halves) else None


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
