"""A prompt longer than the context: what is kept (GEN-15). Pure."""

from collections.abc import Sequence


def truncate(tokens: Sequence[int], num_ctx: int, num_keep: int, num_predict: int) -> tuple[list[int], int]:
    """Return the tokens that fit into `num_ctx` and how many were dropped.

    The first `num_keep` stay, then the tail: as much as leaves room for `num_predict`, or half of the rest when that is
    unbounded or leaves none.
    """
    if len(tokens) < num_ctx:
        return list(tokens), 0
    keep = max(0, min(num_keep, num_ctx // 2))
    rest = num_ctx - keep
    tail = rest - num_predict if 0 < num_predict < rest else rest // 2
    return [*tokens[:keep], *tokens[len(tokens) - tail :]], len(tokens) - keep - tail
