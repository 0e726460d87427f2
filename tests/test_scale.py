"""The simulation of what stands behind Serow past one machine (bench/scale.py)."""

import pytest

from bench.scale import ROUTERS, STEP, STEP_EACH, Simulation


@pytest.mark.req("REM-08")
@pytest.mark.parametrize("name", ROUTERS)
def test_one_person_waits_for_nobody(name: str) -> None:
    found = Simulation(1, 4, ROUTERS[name]()).run()
    assert found.first_token < 0.5
    assert found.fairness == 1.0


@pytest.mark.req("REM-08")
def test_a_router_that_knows_conversations_spares_their_prompts() -> None:
    blind, knowing = (Simulation(100, 4, ROUTERS[name](), duration=120.0).run() for name in ("round robin", "by prefix"))
    assert knowing.first_token < blind.first_token / 2
    assert knowing.tokens_per_second >= blind.tokens_per_second


@pytest.mark.req("REM-08")
def test_no_replica_says_more_than_its_steps_allow() -> None:
    found = Simulation(300, 1, ROUTERS["round robin"](), duration=120.0).run()
    assert found.tokens_per_second <= 128 / (STEP + 128 * STEP_EACH)
    assert 0 < found.fairness <= 1
