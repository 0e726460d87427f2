"""What can be asked of folders, told by their files and by the loaded pipelines: `python abilities_program.py FOLDER…`.

Prints both as a JSON list.
"""

import json
import sys
from pathlib import Path

import msgspec
import torch

from serow.engines.diffusers.abilities import Forms, forms_of
from serow.engines.diffusers.load import build
from serow.store.folder import files_under
from serow.store.pipeline import hints


def told(folder: Path) -> object:
    """By the files."""
    files = files_under(folder)
    forms = forms_of(hints(files, lambda name: files[name].read_bytes()))
    return None if forms is None else msgspec.to_builtins(forms.abilities)


def main(folders: list[Path]) -> None:
    """Print both."""
    loaded = [msgspec.to_builtins(Forms(build(folder, torch.float32)).abilities) for folder in folders]
    print(json.dumps([[*map(told, folders)], loaded]))


if __name__ == "__main__":
    main([*map(Path, sys.argv[1:])])
