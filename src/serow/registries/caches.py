"""Files that other programs of this user have fetched: what has the digest that is wanted is not fetched again (LIB-26).

Looked at, in this order: Hugging Face's cache, whose files are named by their SHA-256; another Ollama store; llama.cpp's and LM
Studio's folders, where a file of the same size is hashed. Nothing is written there.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from serow.settings import roots
from serow.store.manifest import Layer

_LEAST = 1 << 20  # bytes; smaller files are fetched sooner than found
_MOST_HASHED = 4  # files of the right size that are read for one blob


def find(layer: Layer, environ: Mapping[str, str], own: Path) -> Path | None:
    """A file with the bytes of a blob, verified; None when there is none. `own` is our store. Blocks: reads the file."""
    if layer.size < _LEAST:
        return None
    hexadecimal = layer.digest.removeprefix("sha256:")
    num_hashed = 0
    for path in (*_named(hexadecimal, environ, own), *_sized(environ)):
        with suppress(OSError):
            if path.stat().st_size == layer.size and num_hashed < _MOST_HASHED:
                num_hashed += 1
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() == hexadecimal:
                        return path
    return None


def _homes(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("HOME") or environ.get("USERPROFILE"):
        yield Path(home)


def _named(hexadecimal: str, environ: Mapping[str, str], own: Path) -> Iterator[Path]:
    """Files that are named by their digest."""
    for hub in _hubs(environ):
        yield from sorted(hub.glob(f"models--*/blobs/{hexadecimal}"))
    stores = [home / ".ollama" / "models" for home in _homes(environ)]
    stores += roots(environ["OLLAMA_MODELS"]) if environ.get("OLLAMA_MODELS") else []
    for store in stores:
        if os.path.realpath(store) != os.path.realpath(own):
            yield store / "blobs" / f"sha256-{hexadecimal}"


def snapshot(repository: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The newest copy of a repository in Hugging Face's cache, None where there is none."""
    name = f"models--{repository.replace('/', '--')}"
    found = (path for hub in _hubs(environ) for path in (hub / name / "snapshots").glob("*/"))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _hubs(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("HF_HUB_CACHE"):
        yield Path(environ["HF_HUB_CACHE"])
    elif environ.get("HF_HOME"):
        yield Path(environ["HF_HOME"]) / "hub"
    else:
        yield from (home / ".cache" / "huggingface" / "hub" for home in _homes(environ))


def _sized(environ: Mapping[str, str]) -> Iterator[Path]:
    """Files of which only the size says whether they could be it."""
    folders = [Path(environ["LLAMA_CACHE"])] if environ.get("LLAMA_CACHE") else []
    for home in _homes(environ):
        folders += [home / ".cache" / "llama.cpp", home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    for folder in folders:
        yield from sorted(folder.rglob("*.gguf")) if folder.is_dir() else ()
