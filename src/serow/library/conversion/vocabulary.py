"""Tokenizers of transformers as GGUF has them: byte-level ones of tokenizer.json, SentencePiece's of tokenizer.model.

How a tokenizer.json splits a text before it merges is told by a name that llama.cpp knows: of those that are told here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serow.library.conversion.gguf_file import F32_VALUE, I32, Refusal, flag, numbers, string, strings, u32
from serow.library.conversion.sentencepiece import Piece, pieces_of

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # types of tokens
_ADDED, _ABSENT = -1000.0, -10_000.0  # scores
_QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_SPLITS = {
    ("ByteLevel True",): "gpt-2",
    ("Digits True", "ByteLevel True"): "smollm",
    (f"Split {_QWEN}", "ByteLevel False"): "qwen2",
    (f"Split {_LLAMA}", "ByteLevel False"): "llama-bpe",
}
_SPECIAL = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_IDS = {  # the format's own spelling
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}


@dataclass(frozen=True)
class Tokenizer:
    """The files of a tokenizer, as far as they are there: JSON as it was read, tokenizer.model as bytes."""

    json: Mapping[str, Any]
    config: Mapping[str, Any]
    model: bytes
    template: str  # of chat_template.jinja

    def metadata(self, size: int, settings: Mapping[str, Any], *, adds_space: bool) -> dict[str, bytes]:
        """The vocabulary for `size` rows of embeddings; `settings` is config.json. Raises Refusal."""
        found = self._pieces(size, adds_space) if self.model else self._bytes(size)
        found |= {f"{_PREFIX}{name}_token_id": u32(token) for name, token in self._ids(settings).items() if 0 <= token < size}
        for name in ("add_bos_token", "add_eos_token"):
            if isinstance(self.config.get(name), bool):
                found[_PREFIX + name] = flag(self.config[name])
        if f"{_PREFIX}add_bos_token" not in found and self._begins_with_bos():
            found[f"{_PREFIX}add_bos_token"] = flag(True)
        if template := self.template or _template(self.config.get("chat_template")):
            found["tokenizer.chat_template"] = string(template)
        return found

    def _bytes(self, size: int) -> dict[str, bytes]:
        model = self.json.get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
            raise Refusal("the tokenizer is of a kind that is not converted: a tokenizer.json with BPE is needed")
        tokens, types = [f"[PAD{number}]" for number in range(size)], [_UNUSED] * size
        for text, number in model["vocab"].items():
            tokens[_within(number, size)], types[number] = text, _NORMAL
        for number, text, is_special in self._added():
            tokens[_within(number, size)] = text
            types[number] = _CONTROL if is_special or _looks_special(text) else _USER_DEFINED
        return {
            f"{_PREFIX}model": string("gpt2"),
            f"{_PREFIX}pre": string(self._pre()),
            f"{_PREFIX}tokens": strings(tokens),
            f"{_PREFIX}token_type": numbers(types, I32),
            f"{_PREFIX}merges": strings([*map(_merge, model.get("merges") or ())]),
        }

    def _pieces(self, size: int, adds_space: bool) -> dict[str, bytes]:
        pieces = [Piece(f"[PAD{number}]", _ABSENT, _UNUSED) for number in range(size)]
        for number, piece in enumerate(pieces_of(self.model)):
            pieces[_within(number, size)] = piece
        for number, text, is_special in self._added():
            kind = _CONTROL if is_special or _looks_special(text) else _USER_DEFINED
            if pieces[_within(number, size)].text != text or pieces[number].type == _UNUSED:
                pieces[number] = Piece(text, _ADDED, kind)
        found = {
            f"{_PREFIX}model": string("llama"),
            f"{_PREFIX}pre": string("default"),
            f"{_PREFIX}tokens": strings([piece.text for piece in pieces]),
            f"{_PREFIX}scores": numbers([piece.score for piece in pieces], F32_VALUE),
            f"{_PREFIX}token_type": numbers([piece.type for piece in pieces], I32),
        }
        return found if adds_space else {**found, f"{_PREFIX}add_space_prefix": flag(False)}

    def _added(self) -> Iterator[tuple[int, str, bool]]:
        """Number, text and whether it is special of each token that was added to the vocabulary."""
        for each in self.json.get("added_tokens") or ():
            if not isinstance(each, dict) or type(each.get("id")) is not int or not isinstance(each.get("content"), str):
                raise Refusal("tokenizer.json: an added token is not what the format says")
            yield each["id"], each["content"], bool(each.get("special"))

    def _pre(self) -> str:
        known = tuple(_steps(self.json.get("pre_tokenizer")))
        if known not in _SPLITS:
            raise Refusal("the tokenizer splits texts in a way that is not known here: convert_hf_to_gguf.py may know it")
        return _SPLITS[known]

    def _ids(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """The numbers of the tokens that begin, end, fill a text: the tokenizer's, else the model's."""
        model = self.json.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        known: dict[Any, Any] = dict(vocabulary) if isinstance(vocabulary, dict) else {}
        known |= {text: number for number, text, _ in self._added()}
        found: dict[str, int] = {}
        for short, name in _IDS.items():
            given, told = self.config.get(f"{short}_token"), settings.get(f"{short}_token_id")
            text = given.get("content") if isinstance(given, dict) else given
            number = known.get(text) if isinstance(text, str) else None
            if number is None:
                number = told[0] if isinstance(told, list) and told else told
            found |= {name: number} if type(number) is int else {}
        return found

    def _begins_with_bos(self) -> bool:
        """Whether the tokenizer puts a token before every text."""
        processor = self.json.get("post_processor")
        steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
        for step in steps:
            single = step.get("single") if isinstance(step, dict) and step.get("type") == "TemplateProcessing" else None
            if isinstance(single, list) and single and isinstance(single[0], dict) and "SpecialToken" in single[0]:
                return True
        return False


_PREFIX = "tokenizer.ggml."


def _within(number: Any, size: int) -> int:
    if type(number) is not int or not 0 <= number < size:
        raise Refusal("the vocabulary has more tokens than the model has rows for")
    return number


def _merge(given: Any) -> str:
    """A merge as two texts with a blank between them."""
    if isinstance(given, str):
        return given
    if isinstance(given, list) and len(given) == 2 and all(isinstance(each, str) for each in given):
        return " ".join(each.replace(" ", "Ġ") for each in given)
    raise Refusal("tokenizer.json: a merge is not what the format says")


def _steps(found: Any) -> Iterator[str]:
    """The steps by which a text is split, each in a word or two."""
    if not isinstance(found, dict):
        return
    if found.get("type") == "Sequence":
        for each in found.get("pretokenizers") or ():
            yield from _steps(each)
    elif found.get("type") == "Split":
        pattern = found.get("pattern")
        yield f"Split {pattern.get('Regex') if isinstance(pattern, dict) else pattern}"
    elif found.get("type") == "Digits":
        yield f"Digits {found.get('individual_digits')}"
    else:
        yield f"{found.get('type')} {found.get('use_regex', True)}"


def _looks_special(text: str) -> bool:
    is_marked = any(text.startswith(start) and text.endswith(end) for start, end in _SPECIAL)
    return is_marked or text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


def _template(found: Any) -> str:
    """The chat template of a tokenizer_config.json: a text, or several of which one is the default."""
    if isinstance(found, list):
        found = next((each.get("template") for each in found if isinstance(each, dict) and each.get("name") == "default"), "")
    return found if isinstance(found, str) else ""
