"""A process that has torch imported and runs programs, each in a fork of it: `python -m tests.engines.diffusers.programs`.

torch and what stands on it take longer to import than most of what is tried here. Each line of stdin is a JSON list: what is to
be sys.argv, and the files that get stdout and stderr. Prints the status of each program when it has ended.
"""

import gc
import json
import os
import runpy
import sys

import peft  # noqa: F401 (imported once for all programs)

from serow.engines.diffusers import load  # noqa: F401
from tests.engines.diffusers import folders  # noqa: F401 (torch, and pipelines of every kind)


def main() -> None:
    """Run programs until stdin ends. A fork leaves the loop, and ends as any program does."""
    gc.collect()
    gc.freeze()  # the end of a fork has nothing to do with what was here before
    for line in sys.stdin:
        argv, out, err = json.loads(line)
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        for number, path in enumerate((os.devnull, out, err)):
            os.dup2(os.open(path, os.O_RDWR), number)
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")
        return


if __name__ == "__main__":
    main()
