"""How a model comes into memory, is shared, and leaves (LIFE-01 to LIFE-05)."""

import pytest

from tests.compat.wire import ENDLESS, Wire, engines, text_of, together, until

SUM = "What is 12 + 34?"


@pytest.fixture(autouse=True)
def only_thinker(wire: Wire) -> None:
    """zoo-think alone is in memory, loaded with the defaults."""
    for other in wire.loaded().keys() - {"zoo-think"}:
        wire.unload(other)
    wire.generate("zoo-think")


@pytest.mark.req("LIFE-01")
def test_first_requests_at_the_same_time_share_one_load(wire: Wire) -> None:
    wire.unload("zoo-think")
    others = engines()  # such as one that only counts tokens
    records = together(*[lambda: wire.generate("zoo-think", SUM, think=False)] * 6)
    assert {record["response"] for record in records} == {"12 + 34 = 46."}
    assert len(engines()) == len(others) + 1


@pytest.mark.req("LIFE-01", "LIFE-04")
def test_an_unloaded_model_leaves_no_process(wire: Wire) -> None:
    before = engines()
    wire.unload("zoo-think")
    assert len(engines()) == len(before) - 1


@pytest.mark.req("LIFE-02")
def test_requests_to_one_model_run_together(wire: Wire) -> None:
    """Each of these would never end: only together can all of them begin."""
    with (
        wire.streaming("zoo-think", SUM, ENDLESS) as first,
        wire.streaming("zoo-think", SUM, ENDLESS) as second,
        wire.streaming("zoo-think", SUM, ENDLESS) as third,
    ):
        for _ in range(5):
            assert [next(records)["done"] for records in (first, second, third)] == [False] * 3


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize(
    "options",
    [{"num_ctx": 512}, {"num_ctx": 0}, {}, {"temperature": 1.5, "seed": 1}, {"num_keep": 9}, {"stop": ["x"]}, {"num_gpu": -1}],
)
def test_options_of_a_request_never_reload(wire: Wire, options: dict[str, object]) -> None:
    before = engines()
    wire.generate("zoo-think", SUM, {"num_predict": 1, **options})
    assert engines() == before


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize("options", [{"num_batch": 64}, {"use_mmap": False}, {"num_thread": 2}])
def test_options_of_the_load_reload_after_the_requests_in_flight(wire: Wire, options: dict[str, object]) -> None:
    before = engines()
    with wire.streaming("zoo-think", SUM, {**ENDLESS, "num_predict": 200}) as records:
        next(records)
        other, rest = together(lambda: wire.generate("zoo-think", SUM, options, think=False), lambda: list(records))
    assert (other["response"], rest[-1]["eval_count"]) == ("12 + 34 = 46.", 200)
    assert engines() != before
    wire.unload("zoo-think")


@pytest.mark.req("LIFE-03")
def test_a_context_is_held_to_what_the_model_was_trained_for(wire: Wire) -> None:
    wire.generate("zoo-think", SUM, {"num_ctx": 1_000_000, "num_predict": 1})
    assert wire.loaded()["zoo-think"]["context_length"] == 2048


@pytest.mark.req("LIFE-05")
def test_a_client_that_leaves_frees_its_place(wire: Wire) -> None:
    for _ in range(12):  # more than run together: they would wait for ever for places that are not freed
        with wire.streaming("zoo-think", SUM, ENDLESS) as records:
            assert next(records)["done"] is False
    assert text_of(wire.stream("zoo-think", SUM)) == "12 + 34 = 46."


@pytest.mark.req("LIFE-05", "GEN-05")
def test_a_model_whose_client_left_goes_when_its_time_is_up(wire: Wire) -> None:
    with wire.streaming("zoo-think", SUM, ENDLESS, keep_alive=0.2) as records:
        next(records)
    until(lambda: "zoo-think" not in wire.loaded())
