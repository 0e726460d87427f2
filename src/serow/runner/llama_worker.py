"""The child that runs llama.cpp's server from the wheel: `python -m serow.runner.llama_worker`, see `process`."""

import sys
import threading

from serow.runner.child import adopt
from serow.runner.llama_params import LlamaSpec, common_params


def main() -> None:
    """Serve the model until stdin ends."""
    listen, spec = adopt(LlamaSpec)
    import xllamacpp

    try:
        server = xllamacpp.Server(common_params(spec, listen))
    except RuntimeError:  # the engine has written the reason to stderr
        sys.exit(1)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
