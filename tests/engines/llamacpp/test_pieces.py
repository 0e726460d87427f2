"""Long texts reach the engine's tokenizer in pieces, and have the same ids."""

import re
import time
from collections.abc import Sequence

import pytest

from serow.engines.llamacpp.pieces import LENGTH, Pieces
from serow.engines.llamacpp.runner import LlamaRunner

MARKS = {"<|im_start|>": 1, "<|im_end|>": 2, "[INST]": 3}
PARTS = re.compile(r"(<\|im_start\|>|<\|im_end\|>|\[INST\])")
TURN = "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n"
BEGINNING, END = 10, 11


class Vocabulary:
    """A token for each mark and else for each six characters between two; it remembers how much it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def tokenize_at_once(self, text: str, *, add_special: bool) -> list[int]:
        self.asked.append(len(text))
        ids: list[int] = []
        for part in PARTS.split(text):
            ids += [MARKS[part]] if part in MARKS else [100 + hash(part[at : at + 6]) % 99 for at in range(0, len(part), 6)]
        return [BEGINNING, *ids, END] if add_special else ids

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return next(text for text, token in MARKS.items() if token == tokens[0])


@pytest.mark.parametrize("add_special", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        TURN * 5000,
        "<|im_start|>" * 9000,
        "word " * 50_000,
        "word " * 50_000 + TURN * 2000,
        TURN + "word " * 50_000 + TURN,
        "[INST]" * 9000 + "x" * 5 * LENGTH,
        ("<|im_end|>" * 2 + "x" * LENGTH) * 9,
    ],
    ids=["turns", "marks", "no marks", "marks at the end", "marks at both ends", "marks at the beginning", "few marks"],
)
async def test_pieces_have_the_ids_of_the_whole_and_cost_little_more(text: str, add_special: bool) -> None:
    vocabulary = Vocabulary()
    expected = await vocabulary.tokenize_at_once(text, add_special=add_special)
    vocabulary.asked.clear()
    assert await Pieces(frozenset(MARKS.values()), vocabulary).tokenize(text, add_special=add_special) == expected
    assert sum(vocabulary.asked) < 4 * len(text)


async def test_what_is_short_or_has_no_such_tokens_is_asked_at_once() -> None:
    vocabulary = Vocabulary()
    await Pieces(frozenset({1}), vocabulary).tokenize("a" * LENGTH, add_special=True)
    await Pieces(frozenset(), vocabulary).tokenize("a" * 9 * LENGTH, add_special=True)
    assert vocabulary.asked == [LENGTH, 9 * LENGTH]


async def test_an_engine_says_the_same_of_pieces(think: LlamaRunner) -> None:
    for add_special in (True, False):
        whole = await think.tokenize_at_once(TURN * 1500, add_special=add_special)
        assert await think.tokenize(TURN * 1500, add_special=add_special) == whole


async def test_a_text_of_control_tokens_takes_no_engine_quadratic_time(think: LlamaRunner) -> None:
    begun = time.monotonic()
    assert len(await think.tokenize("<|im_start|>" * 80_000, add_special=False)) == 80_000
    assert time.monotonic() - begun < 20
