"""The child that runs llama.cpp's server from the wheel: `python -m serow.engines.llamacpp.worker`, see `process`."""

import os
import sys
import threading
import time

from serow.engines.child import adopt
from serow.engines.llamacpp.params import common_params, has_gpu
from serow.engines.llamacpp.spec import ENVIRON, LlamaSpec
from serow.system.limits import limit_data

LOG_DELAY = 0.1  # seconds; the engine's log, with the reason why it did not load, is written by a thread of its own


def main() -> None:
    """Serve the model until stdin ends."""
    listen, spec = adopt(LlamaSpec)
    os.environ.update(ENVIRON | os.environ)  # read when the libraries are loaded
    import xllamacpp

    if not has_gpu():  # a driver claims address space as it likes
        limit_data(spec.memory_limit * 5 // 4)
    try:
        server = xllamacpp.Server(common_params(spec, listen))
    except RuntimeError:
        time.sleep(LOG_DELAY)
        sys.exit(1)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
