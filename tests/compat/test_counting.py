"""Counting tokens of a model that is not loaded, by a server in a process of its own (ANT-10)."""

from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.server import served

CALLS = 50
MOST = 1 / 50  # seconds of CPU a call, the server's and its engine's together: 50 calls a second on one core
BODY = {
    "model": "zoo-think",
    "system": "Be brief. " * 50,
    "tools": [{"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}],
}


def cpu_of(process: psutil.Process) -> float:
    """Seconds of it and of all that it has started."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


@pytest.mark.req("ANT-10")
def test_fifty_prompts_are_counted_in_a_second_without_the_model(models: Path) -> None:
    with served(models, SEROW_OFFLINE="1") as started, httpx.Client(base_url=started.url, timeout=30) as client:

        def count(number: int) -> int:
            messages = [{"role": "user", "content": f"What is {number} + 85?"}]
            answer = client.post("/v1/messages/count_tokens", json={**BODY, "messages": messages})
            return int(answer.json()["input_tokens"])

        count(0)
        process = psutil.Process(started.process.pid)
        before = cpu_of(process)
        assert all(count(number) > 100 for number in range(CALLS))
        assert (cpu_of(process) - before) / CALLS < MOST
        assert client.get("/api/ps").json() == {"models": []}
