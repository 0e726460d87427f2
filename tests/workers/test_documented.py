"""docs/security.md tells what work in processes of its own may cost."""

import os
from pathlib import Path

import pytest

from serow import images
from serow.constraints.service import COMPILING, JUDGING
from serow.engines.llamacpp.chat_templates import limits as limits_of_chat_templates
from serow.prompt import templates
from serow.store import heads
from serow.workers import pool, share
from serow.workers.pool import Limits

DOCUMENT = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        ("a schema, pattern or grammar is compiled", COMPILING),
        ("an answer is checked against its schema or grammar", JUDGING),
        ("a picture of up to 4 megapixels is decoded", images.LIGHT),
        ("the head of a model file is read, also for `/api/show`; the parts of a pipeline are checked", heads.LIMITS),
        ("a template is rendered that takes more than 1,000 steps", templates.LIMITS),
        (
            "a chat template of a model file is tried, or renders a conversation; 0.4 ms more for each message",
            limits_of_chat_templates(),
        ),
    ],
)
def test_the_limits_of_work_are_as_documented(what: str, limits: Limits) -> None:
    assert f"| {what} | {limits.cpu:g} s | {limits.memory >> 20} MiB | {limits.wall:g} s |" in DOCUMENT


def test_the_numbers_of_processes_are_as_documented() -> None:
    assert (pool.NUM_WORKERS, pool.NUM_HEAVY, pool.MOST_WAITING, pool.LONGEST_WAIT) == (4, 2, 256, 20.0)
    assert (0.75, (os.cpu_count() or 1) / 40) == (share.CREDIT, share.RATE)
    assert (images.LIGHT_PIXELS, templates.QUICK_STEPS) == (4_000_000, 1000)
