"""Parts of a pipeline, looked at before anything is loaded: what is missing, cut, or does not fit its neighbour.

The checks need no torch, so they are made when a model is made and again before it is loaded. Whether every tensor of a part is
that of its settings is found when the part is built.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from serow.errors import ModelFileError
from serow.store import fits, vocabulary
from serow.store.blobs import read_small
from serow.store.folder import WEIGHTS
from serow.store.manifest import decode
from serow.store.safetensors import named, read_shapes, shapes_of
from serow.store.tensors import FOLDER

Read = Callable[[str], bytes]
Shapes = Callable[[str], Mapping[str, tuple[int, ...]]]

_SETTINGS = {  # how the classes of parts without weights end: the files of which they need one
    "Tokenizer": (),
    "TokenizerFast": (),
    "Scheduler": ("scheduler_config.json",),
    "Processor": ("preprocessor_config.json", "processor_config.json"),
    "ProcessorFast": ("preprocessor_config.json", "processor_config.json"),
    "FeatureExtractor": ("preprocessor_config.json",),
}
_LATENTS = {  # by the class of a denoiser: where it says how many channels it draws, and how many of its numbers are one
    **dict.fromkeys(("UNet2DConditionModel", "SD3Transformer2DModel", "QwenImageTransformer2DModel"), (("out_channels",), 1)),
    "ZImageTransformer2DModel": (("in_channels",), 1),
    **dict.fromkeys(
        ("FluxTransformer2DModel", "Flux2Transformer2DModel", "ChromaTransformer2DModel"), (("out_channels", "in_channels"), 4)
    ),
}
_MOST_LAYERS = 1000
_MOST_BLOCKS = 100
_COUNTS = re.compile(r"layers|depth|num_blocks|num_hidden|n_refiner", re.IGNORECASE)
_LARGEST_SIDE = 1 << 20  # numbers in a row
_SIDES = re.compile(
    r"(?:hidden|intermediate|embed|inner|head)_?(?:size|dim)|channels|cross_attention_dim|d_model|d_ff|heads", re.IGNORECASE
)


def check(
    parts: Mapping[str, tuple[str, str]], paths: Collection[str], read: Read, shapes: Shapes, other: Mapping[str, fits.Shapes]
) -> None:
    """Raise ModelFileError for a part that can't be what the index says; the weights of `other` parts lie in a single file."""
    for part, (_, kind) in parts.items():
        files = [path for path in paths if path.startswith(f"{part}/")]
        ending = next((each for each in _SETTINGS if kind.endswith(each)), None)
        if ending is None:
            _check_network(part, kind, files, read, shapes, other.get(part))
        elif not ending.startswith("Tokenizer"):
            _check_settings(part, kind, files, _SETTINGS[ending], read)
        else:
            encoder = part.replace("tokenizer", "text_encoder")
            own = _rows(encoder, paths, shapes) if encoder in parts and encoder not in other else 0
            vocabulary.check(part, files, read, own or vocabulary.embedding_rows(other.get(encoder, {})))
    _check_text(parts, read)
    _check_latents(parts, read)


def check_files(
    parts: Mapping[str, tuple[str, str]], files: Mapping[str, Path], data: Mapping[str, bytes], other: Mapping[str, fits.Shapes]
) -> dict[str, dict[str, tuple[str, list[int]]]]:
    """`check` of files, by their paths in the pipeline; `data` are those that are nowhere yet. Raises StoreError, too.

    Returns type and shape of every tensor of each file of weights.
    """
    types = dict[str, dict[str, tuple[str, list[int]]]]()
    for path, file in files.items():
        if path.endswith(WEIGHTS):
            with named(path):
                types[path] = read_shapes(file)

    def read(path: str) -> bytes:
        return data[path] if path in data else read_small(files[path], vocabulary.LIMIT)

    check(parts, [*files, *data], read, lambda path: shapes_of(types[path]), other)
    return types


def _check_latents(parts: Mapping[str, tuple[str, str]], read: Read) -> None:
    """An autoencoder makes a picture of as many channels as the denoiser draws."""
    denoiser = next((part for part in ("unet", "transformer") if part in parts), "")
    names, per_channel = _LATENTS.get(parts[denoiser][1] if denoiser else "", ((), 1))
    if not names or "vae" not in parts:
        return
    drawn, vae = (decode(read(f"{part}/config.json"), dict[str, Any], part) for part in (denoiser, "vae"))
    found = next((drawn[name] for name in names if isinstance(drawn.get(name), int)), None)
    channels = next((vae[name] for name in ("latent_channels", "z_dim") if isinstance(vae.get(name), int)), None)
    if found is not None and channels is not None and found != channels * per_channel:
        what = f"the {denoiser} draws {found // per_channel} channels, the vae reads {channels}"
        raise ModelFileError(f"the parts {denoiser} and vae do not fit each other: {what}")


def _check_text(parts: Mapping[str, tuple[str, str]], read: Read) -> None:
    """A UNet takes as many numbers for a token of text as CLIP's encoders have together."""
    encoders = [part for part in ("text_encoder", "text_encoder_2") if part in parts]
    are_clip = all(parts[part][1].startswith("CLIPTextModel") for part in encoders)
    if not encoders or not are_clip or parts.get("unet", ("", ""))[1] != "UNet2DConditionModel":
        return
    unet, *texts = (decode(read(f"{part}/config.json"), dict[str, Any], part) for part in ("unet", *encoders))
    wanted, found = (
        unet.get("cross_attention_dim"),
        [size for text in texts if isinstance(size := text.get("hidden_size"), int)],
    )
    if unet.get("encoder_hid_dim") or not isinstance(wanted, int) or len(found) < len(texts):
        return
    if sum(found) != wanted:
        what = f"the unet reads {wanted} numbers for a token of text, the text encoder writes {sum(found)}"
        raise ModelFileError(f"the parts {' and '.join(('unet', *encoders))} do not fit each other: {what}")


def _check_settings(part: str, kind: str, files: Collection[str], names: Collection[str], read: Read) -> None:
    """A part without weights has one of these files, and each that it has is whole."""
    found = [path for name in names if (path := f"{part}/{name}") in files]
    if not found:
        raise ModelFileError(f"the part {part} ({kind}) has no {next(iter(names))}")
    for path in found:
        decode(read(path), dict[str, Any], path)


def _check_network(
    part: str, kind: str, files: Collection[str], read: Read, shapes: Shapes, single: fits.Shapes | None
) -> None:
    if f"{part}/config.json" not in files:
        raise ModelFileError(f"the part {part} ({kind}) has no config.json")
    if single is None and not any(path.endswith(WEIGHTS) for path in files):
        raise ModelFileError(f"the part {part} ({kind}) has no weights")
    config = decode(read(f"{part}/config.json"), dict[str, Any], f"{part}/config.json")
    if isinstance(found := config.get("quantization_config"), dict):
        raise ModelFileError(
            f"the part {part} ({kind}) is quantized with {str(found.get('quant_method', 'another library'))[:40]}"
        )
    _check_sizes(f"{part}/config.json", config)
    weights = [path for path in files if path.endswith(WEIGHTS) and not path.startswith(f"{part}/{FOLDER}/")]
    own = {name: shape for path in weights for name, shape in shapes(path).items()}
    fits.check(part, kind, config, own if single is None else single)


def _check_sizes(path: str, config: Mapping[str, Any]) -> None:
    """Refuse settings that no model has: building it would take hours and all memory."""
    for name, value in config.items():
        if isinstance(value, dict):
            _check_sizes(path, value)
        numbers = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int)]
        if isinstance(value, list) and len(value) > _MOST_BLOCKS and _COUNTS.search(name):
            raise ModelFileError(f"{path}: {name} has {len(value)} entries, more than any model")
        most = _MOST_LAYERS if _COUNTS.search(name) else _LARGEST_SIDE if _SIDES.search(name) else None
        if most is not None and any(not 0 <= number <= most for number in numbers):
            raise ModelFileError(f"{path}: {name} is {str(value)[:40]}, which no model has")


def _rows(encoder: str, paths: Collection[str], shapes: Shapes) -> int:
    """How many tokens the embedding of a text encoder has numbers for."""
    weights = [path for path in paths if path.startswith(f"{encoder}/") and path.endswith(WEIGHTS)]
    return max((_rows_in(path, f"{encoder}/{FOLDER}/", shapes) for path in weights), default=0)


def _rows_in(path: str, single: str, shapes: Shapes) -> int:
    """The same of one file; below `single` a file is named for its tensor."""
    if not path.startswith(single):
        return vocabulary.embedding_rows(shapes(path))
    if not vocabulary.is_embedding(path.removeprefix(single).removesuffix(WEIGHTS)):
        return 0
    return max((shape[0] for shape in shapes(path).values() if len(shape) == 2), default=0)
