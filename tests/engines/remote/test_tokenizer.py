"""A tokenizer.json at work: ids, the true bytes of tokens, chat templates (REM-02)."""

import json
from pathlib import Path
from typing import Any

import pytest

from serow.engines.remote.tokenizer import encode, render, token_bytes
from serow.errors import ModelFileError, TemplateError
from tests.support import vllm

pytest.importorskip("tokenizers", reason="the extra serow[remote] is not installed")


@pytest.mark.req("REM-02")
def test_a_text_becomes_the_ids_of_its_bytes_and_special_tokens(tmp_path: Path) -> None:
    path = str(vllm.write_folder(tmp_path) / "tokenizer.json")
    text = "<|start|>é 東\n<think>\x00 🙂"
    tokens = encode(path, text, False)
    assert tokens == vllm.ids(text)
    table = token_bytes(path)
    assert b"".join(table[token] for token in tokens).decode() == text


@pytest.mark.req("REM-02")
def test_bytes_of_a_vocabulary_of_sentencepiece_are_true(tmp_path: Path) -> None:
    described: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "vocab": {"<unk>": 0, "<0xE9>": 1, "\u2581a": 2, "\u2581": 3}, "merges": [],
                  "byte_fallback": True, "unk_token": "<unk>"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    assert token_bytes(str(tmp_path / "tokenizer.json"))[1:] == [b"\xe9", b" a", b" "]


@pytest.mark.req("REM-02")
def test_a_tokenizer_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(ModelFileError, match=r"tokenizer\.json can't be read"):
        encode(str(tmp_path / "tokenizer.json"), "x", False)


@pytest.mark.req("REM-02")
def test_a_chat_template_sees_messages_tools_and_arguments_as_values() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"é": 1}'}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    template = (
        "{{ bos_token }}{% for t in tools %}{{ t.function.name }}{% endfor %}"
        "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    )
    assert render(template, messages, [{"function": {"name": "g"}}], {"bos_token": "<s>"}) == '<s>g{"é": 1}'


@pytest.mark.req("REM-02")
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('only two roles') }}", "only two roles"),
        ("{% for %}", "template"),
        ("{{ messages.a.b.c }}", "template"),
        ("{{ 1 + 'a' }}", "template"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "template"),
        ("{{ range(10**9) | list }}", "template"),
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused_in_words(template: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        render(template, [], [], {})
