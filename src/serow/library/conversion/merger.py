"""The process that merges the parts of a split model into one file, as llama.cpp's `llama-gguf-split --merge` does.

usage: python -m serow.library.conversion.merger TARGET PART…
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from serow.library.conversion.gguf_file import head, pieces, read
from serow.library.conversion.process import told

_SPLIT = ("split.no", "split.count", "split.tensors.count")  # what only parts have


def merge(target_path: Path, *paths: Path) -> Iterator[int]:
    """Write the merged file; yields how many bytes of it are done."""
    with ExitStack() as stack, target_path.open("wb") as target:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        sources = [read(file) for file in files]
        first = sources[0]
        metadata = {key: value for key, value in first.metadata.items() if key not in _SPLIT}
        tensors = [tensor for source in sources for tensor in source.tensors]
        target.write(head(metadata, tensors, first.alignment, first.version))
        for file, source in zip(files, sources, strict=True):
            for tensor in source.tensors:
                file.seek(source.start + tensor.offset)
                for data in pieces(file, tensor.size):
                    target.write(data)
                    yield target.tell()
                target.write(bytes(-tensor.size % first.alignment))
        target.flush()
        os.fsync(target.fileno())


def main(target: str, *paths: str) -> Iterator[int]:
    """What the process does."""
    return merge(Path(target), *map(Path, paths))


if __name__ == "__main__":
    sys.exit(told(main))
