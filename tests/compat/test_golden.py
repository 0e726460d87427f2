"""Every exchange recorded from the peer, replayed in order against a server of ours.

The models that package indexes carry in hundreds of megabytes are left out unless SEROW_TEST_LARGE is set.
"""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compat.replay import Case, ask, cases, differences

LARGE = ("qwen2.5-coder:0.5b", "gemma3:270m", "fim-tpl", "p-coder")
KNOWN: dict[str, str] = {
    "show-smollm2:135m": "the peer puts its own template and stop parameters over this model; ours keeps the model's",
}


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.req(*case["rules"])] if case.get("rules") else []
    if any(name in str(case.get("body")) for name in LARGE) and not os.environ.get("SEROW_TEST_LARGE"):
        marks.append(pytest.mark.skip(reason="needs a large model: set SEROW_TEST_LARGE=1"))
    if case["id"] in KNOWN:
        marks.append(pytest.mark.xfail(reason=KNOWN[case["id"]], strict=True))
    return marks


@pytest.fixture(scope="module")
def client(golden_server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=golden_server, timeout=60) as client:
        yield client


def _params(name: str) -> list[Any]:
    return [pytest.param(case, id=case["id"], marks=_marks(case)) for case in cases(name)]


@pytest.mark.parametrize("case", _params("exchanges.jsonl"))
def test_a_prompt_is_answered_as_recorded(case: Case, client: httpx.Client) -> None:
    assert differences(case, ask(client, case)) == []


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What was answered so far, by the case's id: some go on from it."""
    return {}


@pytest.mark.parametrize("case", _params("exchanges-v1.jsonl"))
def test_the_dialects_are_answered_as_recorded(case: Case, client: httpx.Client, answers: dict[str, Any]) -> None:
    answer = ask(client, case, answers)
    if answer.headers.get("content-type", "").startswith("application/json") and answer.content:
        answers[case["id"]] = answer.json()
    assert differences(case, answer) == []


@pytest.mark.parametrize("case", _params("exchanges-chat.jsonl"))
def test_a_conversation_and_texts_to_embed_are_answered_as_recorded(case: Case, client: httpx.Client) -> None:
    assert differences(case, ask(client, case)) == []
