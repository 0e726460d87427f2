"""What the processes that make files have in common: they end with their parent, and say how it goes.

`done BYTES` as it goes on, `error …` for a file that nothing can be made of, `disk …` for a disk that fails.
"""

import os
import sys
from collections.abc import Callable, Iterator

from serow.library.conversion.gguf_file import Refusal
from serow.system import limits


def told(work: Callable[..., Iterator[int]]) -> int:
    """Do the work that the command line asks for, say how it goes; returns the status to end with."""
    limits.die_with_parent()
    limits.forbid_core_files()
    try:
        for done in work(*sys.argv[1:]):
            print("done", done, flush=True)
    except Refusal as error:
        print("error", error, flush=True)
        return 1
    except OSError as error:
        print("disk", os.strerror(error.errno or 0).lower(), flush=True)
        return 1
    return 0
