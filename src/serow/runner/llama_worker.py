"""The child that runs llama.cpp's server from the wheel: `python -m serow.runner.llama_worker`, see `process`."""

import os
import sys
import threading
import time

from serow.runner.child import adopt
from serow.runner.llama_params import common_params
from serow.runner.llama_spec import ENVIRON, LlamaSpec

LOG_DELAY = 0.1  # seconds; the engine's log, with the reason why it did not load, is written by a thread of its own


def main() -> None:
    """Serve the model until stdin ends."""
    listen, spec = adopt(LlamaSpec)
    os.environ.update(ENVIRON | os.environ)  # read when the libraries are loaded
    import xllamacpp

    try:
        server = xllamacpp.Server(common_params(spec, listen))
    except RuntimeError:
        time.sleep(LOG_DELAY)
        sys.exit(1)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
