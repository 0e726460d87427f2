"""An event loop that is held: it is told, and the second SIGTERM ends the process all the same (LIFE-07)."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path

import httpx
import psutil
import pytest

DEADLINE = 30  # seconds
SERVER = """
import time
from starlette.responses import Response
from serow.server import app
from serow.server.operation import PUBLIC, Operation
from serow.settings import load

async def hold(request):
    how = request.query_params["how"]
    if how == "a moment":
        time.sleep(0.6)
    elif how == "a step":
        while True:
            pass
    else:
        sum(range(10**15))
    return Response("let go")

app.OPERATIONS += (Operation(method="GET", path="/hold", scope=PUBLIC, handler=hold, summary="hold the loop"),)
app.serve(load())
"""


@contextmanager
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    env = {**environ, "SEROW_HOST": "127.0.0.1:0", "SEROW_MODELS": str(tmp_path), "SEROW_GRACE": "1h"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([sys.executable, "-c", SERVER], env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def test_a_stall_is_logged_with_its_request_and_counted(tmp_path: Path) -> None:
    with server(tmp_path) as (_, url), httpx.Client(base_url=url, timeout=DEADLINE) as client:
        client.get("/hold", params={"how": "a moment"}, headers={"X-Request-Id": "the-slow-one"})
        client.get("/api/version")
        numbers = client.get("/metrics").text
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "the event loop was held" in line]
    assert " WARNING " in line and line.endswith(" request_id=the-slow-one")
    assert re.search(r" place=\S+:\d+ stack=<string>:\d+<server/operation\.py:\d+<", line)
    assert re.search(r'^serow_loop_stall_seconds_bucket\{le="1.0"\} [1-9]', numbers, re.M)


@pytest.mark.req("LIFE-07")
@pytest.mark.parametrize("how", ["a step", "a call"])
def test_the_second_signal_ends_a_process_whose_loop_is_held(tmp_path: Path, how: str) -> None:
    with server(tmp_path) as (process, url):
        asking = threading.Thread(target=ask, args=(url, how), daemon=True)
        asking.start()
        wait_until_held(url)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) != 0
        asking.join(DEADLINE)


def ask(url: str, how: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/hold", params={"how": how}, timeout=DEADLINE)


def wait_until_held(url: str) -> None:
    """Until nobody is answered."""
    for _ in range(100):
        try:
            httpx.get(f"{url}/api/version", timeout=0.5)
        except httpx.TimeoutException:
            return
    pytest.fail("the loop was never held")


@pytest.mark.skipif(sys.platform != "linux", reason="reads a limit of another process")
def test_a_server_that_falls_leaves_no_core_file(tmp_path: Path) -> None:
    with server(tmp_path) as (process, _):
        assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
