"""Texts that a constraint allows, drawn without a model, and a second opinion on whether they fit their schema."""

import json
import random
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from llguidance import LLMatcher, LLTokenizer

from serow.constraints import Constraint, compile_format

MOST_BYTES = 2000
_CLOSING = frozenset(b'"}]')
_TOKENIZER = LLTokenizer("byte")


def compiled(format: Any) -> Constraint:
    """The constraint of a format that has one."""
    constraint = compile_format(format)
    assert constraint is not None
    return constraint


def random_text(constraint: Constraint, seed: int) -> str | None:
    """A text drawn byte by byte, with a liking for what closes; None for one that grew too long."""
    chance, text = random.Random(seed), bytearray()
    matcher = LLMatcher(_TOKENIZER, constraint.grammar)
    while not matcher.is_stopped() and len(text) < MOST_BYTES:
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if matcher.is_accepting() and (not allowed or chance.random() < 0.5):
            break
        closing = [byte for byte in allowed if byte in _CLOSING]
        text.append(chance.choice(closing if closing and chance.random() < 0.35 else allowed))
        assert matcher.consume_token(text[-1]), matcher.get_error()
    return text.decode(errors="replace") if matcher.is_accepting() else None


def random_texts(constraint: Constraint, count: int = 20) -> list[str]:
    """Texts of the first seeds, without those that grew too long."""
    texts = [text for seed in range(count) if (text := random_text(constraint, seed)) is not None]
    assert texts
    return texts


def fits(schema: dict[str, Any], text: str) -> bool:
    """What the reference implementation says, under the draft that the schema names."""
    return bool(validator_for(schema, default=Draft202012Validator)(schema).is_valid(json.loads(text)))
