"""Prompts that a pipeline reads only the beginning of."""

from collections.abc import Mapping
from typing import Any

from serow.engines.diffusers.signature import parameters

_TOKENIZERS = ("tokenizer_3", "tokenizer_2", "tokenizer")  # the last one reads the longest prompts


def cut_prompts(pipe: Any, arguments: Mapping[str, Any]) -> list[str]:
    """A warning for the prompt, and one for the negative prompt, when the pipeline will read only the beginning."""
    tokenizer = next((found for name in _TOKENIZERS if (found := getattr(pipe, name, None)) is not None), None)
    if tokenizer is None:
        return []
    longest = parameters(pipe).get("max_sequence_length")
    limit = longest.default if longest is not None and longest.default else tokenizer.model_max_length
    found = []
    for what, name in (("the prompt", "prompt"), ("the negative prompt", "negative_prompt")):
        text = arguments.get(name)
        if text and len(text) + 2 > limit:  # each token stands for a character at least, and two for beginning and end
            count = len(tokenizer(text, truncation=False).input_ids)
            found += [f"{what} has {count} tokens, the model reads the first {limit}"] if count > limit else []
    return found
