"""A child that ends at once and leaves a process behind, outside its session, which holds what it writes to."""

import subprocess
import sys

if __name__ == "__main__":
    left = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"], start_new_session=True)
    print(left.pid, file=sys.stderr, flush=True)
    sys.exit(3)
