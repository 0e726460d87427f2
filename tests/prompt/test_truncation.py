import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.prompt.truncation import truncate


@pytest.mark.req("GEN-15")
@pytest.mark.parametrize(
    ("length", "num_predict", "kept"),
    [(255, -1, 255), (610, -1, 130), (610, 5, 251), (610, 252, 130), (610, 10_000, 130), (256, 100, 156)],
)
def test_as_much_is_kept_as_leaves_room_for_num_predict(length: int, num_predict: int, kept: int) -> None:
    tokens, dropped = truncate(range(length), 256, 4, num_predict)
    assert (len(tokens), dropped) == (kept, length - kept)


@pytest.mark.req("GEN-15")
def test_the_first_num_keep_tokens_and_the_tail_stay() -> None:
    assert truncate(range(10), 8, 2, 2) == ([0, 1, 6, 7, 8, 9], 4)


@given(st.integers(0, 2000), st.integers(16, 512), st.integers(-5, 600), st.integers(-2, 600))
def test_what_is_kept_always_fits(length: int, num_ctx: int, num_keep: int, num_predict: int) -> None:
    tokens, dropped = truncate(range(length), num_ctx, num_keep, num_predict)
    assert len(tokens) < num_ctx
    assert len(tokens) + dropped == length
