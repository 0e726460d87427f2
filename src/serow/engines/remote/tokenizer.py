"""A tokenizer.json and a chat template at work; runs in a worker process, since both are somebody's program (REM-02).

Sources: Hugging Face's tokenizers (the file's format), GPT-2's byte-to-character table, transformers' chat templates.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serow.errors import ModelFileError, TemplateError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PRELOAD = ("tokenizers", "jinja2", "jinja2.sandbox", "jinja2.ext")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in SentencePiece's vocabularies


def encode(path: str, text: str, add_special: bool) -> list[int]:
    """Token ids of a text; special tokens written out in it count as such."""
    return list(_tokenizer(path).encode(text, add_special_tokens=add_special).ids)


def token_bytes(path: str) -> list[bytes]:
    """The true bytes of every token, by its id: what an answer of these tokens is made of. Raises ModelFileError."""
    described = json.loads(Path(path).read_bytes())
    added = {token["id"]: token["content"] for token in described.get("added_tokens", ())}
    table = _BYTES if _has(described, "ByteLevel") else None
    vocabulary = _tokenizer(path).get_vocab(with_added_tokens=True)
    found = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        found[number] = added[number].encode() if number in added else _bytes_of(token, table)
    return found


def render(template: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    """The text that a chat template makes of messages, as transformers renders it. Raises TemplateError."""
    import jinja2

    try:
        text: str = _template(template).render(
            messages=[_with_values(message) for message in messages],
            tools=tools or None,
            documents=None,
            add_generation_prompt=True,
            **variables,
        )
        return text
    except jinja2.TemplateError as error:
        raise TemplateError(f"the model's chat template does not accept the messages: {_words(error)}") from None
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, ZeroDivisionError, RecursionError) as error:
        raise TemplateError(f"the model's chat template fails: {_words(error)}") from None


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # noqa: BLE001 - the package raises nothing more exact
        raise ModelFileError(f"the model's tokenizer.json can't be read: {_words(error)}") from None


@lru_cache(maxsize=4)
def _template(source: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, **options)


def _with_values(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with the arguments of its calls as values: templates of transformers' world read them so."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, **({"tool_calls": calls} if calls else {})}


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _has(described: Mapping[str, Any], kind: str) -> bool:
    """Whether the tokenizer's steps have one of that type, whose alphabet stands for bytes."""
    steps = [described.get("decoder"), described.get("pre_tokenizer")]
    while steps:
        step = steps.pop()
        if isinstance(step, Mapping):
            if step.get("type") == kind:
                return True
            steps += [*step.get("decoders", ()), *step.get("pretokenizers", ())]
    return False


def _bytes_of(token: str, table: Mapping[str, int] | None) -> bytes:
    if table is not None:
        known = [table.get(character) for character in token]
        return token.encode() if None in known else bytes(each for each in known if each is not None)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace(_SPACE, " ").encode()


def _alphabet() -> dict[str, int]:
    """GPT-2's: a printable byte is its own character, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + n): byte for n, byte in enumerate(others)}}


_BYTES = _alphabet()
