"""A child that takes its assignment and never answers."""

import threading

from serow.engines.child import adopt

if __name__ == "__main__":
    adopt(dict)
    threading.Event().wait()
