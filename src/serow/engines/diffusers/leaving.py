"""A drawing that nobody waits for any more ends in the middle of its step: before the next module, or piece of an attention.

Nothing is asked while somebody waits: PyTorch's hook before each module is set at the moment when they leave.
"""

import threading
from collections.abc import Callable
from typing import Any

LONGEST_PIECE = 1 << 34  # multiplications of one attention, some tenths of a second on two cores


class Abandoned(Exception):
    """Nobody waits for the picture any more."""


class Leaving:
    """Whether those who wait for one drawing have left. `leave` from any thread, `over` from the one that drew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hook: Any = None
        self._is_over = False
        self.has_left = False

    def leave(self) -> None:
        """Have the drawing raise Abandoned before its next module."""
        with self._lock:
            self.has_left = True
            if not self._is_over and self._hook is None:
                from torch.nn.modules.module import register_module_forward_pre_hook

                self._hook = register_module_forward_pre_hook(self._stop)

    def over(self) -> None:
        """The drawing has ended, whichever way: the next one goes undisturbed."""
        with self._lock:
            self._is_over = True
            if self._hook is not None:
                self._hook.remove()

    def check(self) -> None:
        """Raise Abandoned when they have left."""
        if self.has_left:
            raise Abandoned

    def _stop(self, *_: object) -> None:
        if not self._is_over:
            raise Abandoned


def cut_attention(check: Callable[[], None]) -> None:
    """Have PyTorch compute an attention that takes long in pieces of its queries, with a check before each."""
    from torch.nn import functional

    whole = functional.scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        work = query.numel() * key.shape[-2] * 2
        is_causal = kwargs.get("is_causal") or (len(args) > 1 and args[1])
        if work <= LONGEST_PIECE or is_causal or query.device.type != "cpu":
            return whole(query, key, value, attn_mask, *args, **kwargs)
        rows = max(1, query.shape[-2] * LONGEST_PIECE // work)
        pieces = []
        for start in range(0, query.shape[-2], rows):
            check()
            mask = attn_mask
            if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:
                mask = mask[..., start : start + rows, :]
            pieces.append(whole(query[..., start : start + rows, :], key, value, mask, *args, **kwargs))
        return _joined(pieces)

    functional.scaled_dot_product_attention = attention


def _joined(pieces: list[Any]) -> Any:
    import torch

    return torch.cat(pieces, dim=-2)
