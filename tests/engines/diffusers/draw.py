"""Pictures of folders, drawn as the child does: `python draw.py REQUEST FOLDER…` prints a JSON list of digests or errors.

FOLDER=WEIGHT draws with that weight of all its adapters; `--keep OUT` before the rest writes OUT/DIGEST.png, too. One process
for many folders: torch takes seconds to import.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from serow.engines.base import ImageRequest
from serow.engines.diffusers import load
from serow.engines.diffusers.protocol import ImageSpec
from serow.errors import SerowError
from serow.store.pipeline import check_folder, loras_of


def drawn(folder: str, request: ImageRequest, keep: Path | None) -> str:
    """The digest of the picture that a folder draws, or why there is none; the picture goes to the folder `keep`."""
    folder, _, weight = folder.partition("=")
    if weight:
        request = replace(request, adapters=tuple((name, float(weight)) for name in loras_of(Path(folder))))
    try:
        pipeline = load.load(ImageSpec(folder=folder, num_thread=1), check_folder(Path(folder)))
        (image,), _ = pipeline.draw(request, lambda *_: None)
    except SerowError as error:
        return f"{type(error).__name__}: {error}"
    except load.LOAD_ERRORS as error:
        return load.explain_load(error)
    digest = hashlib.sha256(image).hexdigest()
    if keep is not None:
        (keep / f"{digest}.png").write_bytes(image)
    return digest


if __name__ == "__main__":
    keep, (given, *folders) = (Path(sys.argv[2]), sys.argv[3:]) if sys.argv[1] == "--keep" else (None, sys.argv[1:])
    wanted = msgspec.json.decode(given, type=ImageRequest)
    print(json.dumps([drawn(folder, wanted, keep) for folder in folders]))
