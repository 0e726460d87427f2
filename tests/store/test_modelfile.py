from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import ModelFileError
from serow.store.modelfile import Command, Modelfile, decode, parse

WHOLE = '''\ufeff# A comment
FROM ./model.gguf
from ./mmproj.gguf

TEMPLATE """{{ if .System }}
"{{ .System }}"
{{ end }}{{ .Prompt }}"""
  SYSTEM You are kind. # not a comment
SYSTEM "Second
line"
PARAMETER temperature 0.7
PARAMETER num_ctx\t4096
PARAMETER stop "<|im_end|>"
PARAMETER stop   User:
PARAMETER use_mmap false
MESSAGE user What's "up"?
MESSAGE assistant """Not
much"""
LICENSE MIT
LICENSE """
Apache
"""
ADAPTER ./lora.gguf
REQUIRES 0.14.0
PARAMETER use_mlock true
'''


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_modelfile_is_read(newline: str) -> None:
    found = parse(WHOLE.replace("\n", newline))
    assert found.sources == ("./model.gguf", "./mmproj.gguf")
    assert found.adapters == ("./lora.gguf",)
    assert found.request() == {
        "template": '{{ if .System }}\n"{{ .System }}"\n{{ end }}{{ .Prompt }}',
        "system": "Second\nline",
        "license": ["MIT", "\nApache\n"],
        "parameters": {"temperature": 0.7, "num_ctx": 4096, "stop": ["<|im_end|>", "User:"], "use_mmap": False},
        "messages": [{"role": "user", "content": 'What\'s "up"?'}, {"role": "assistant", "content": "Not\nmuch"}],
        "requires": "0.14.0",
    }
    assert found.warnings == ("line 25: parameter use_mlock has no effect any more",)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM line"),
        ("# only\n", "no FROM line"),
        ("SYSTEM x", "no FROM line"),
        ("FROM x\nBOGUS y", "line 2: command must be one of FROM"),
        ("FROM x\n!", "line 2: command must be one of FROM"),
        ("FROM", "line 1: FROM needs a value"),
        ("FROM x\nSYSTEM   ", "line 2: SYSTEM needs a value"),
        ("FROM x\n\nPARAMETER", "line 3: PARAMETER needs a name and a value"),
        ("FROM x\nPARAMETER top_k", "line 2: PARAMETER top_k needs a value"),
        ("FROM x\nPARAMETER nonsense 1", 'line 2: unknown parameter "nonsense"'),
        ("FROM x\nPARAMETER top_k many", 'line 2: option "top_k" must be of type integer'),
        ("FROM x\nPARAMETER use_mmap 2", 'line 2: option "use_mmap" must be of type boolean'),
        ("FROM x\nPARAMETER top_k 1.5", 'line 2: option "top_k" must be of type integer'),
        ("FROM x\nMESSAGE robot hi", "line 2: message role must be one of"),
        ("FROM x\nMESSAGE", "line 2: MESSAGE needs a role and a value"),
        ('FROM x\nSYSTEM """a\nb\n', "line 2: the quoted text has no end"),
        ('FROM x\nSYSTEM "', "line 2: the quoted text has no end"),
    ],
)
def test_a_fault_names_its_line(text: str, error: str) -> None:
    with pytest.raises(ModelFileError, match=error):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-3", 0.001),
    ],
)
def test_parameters_are_typed(text: str, value: Any) -> None:
    found = parse(f"FROM x\nPARAMETER temperature {text}").parameters()["temperature"]
    assert found == value


def test_a_stop_is_text_whatever_it_looks_like() -> None:
    assert parse("FROM x\nPARAMETER stop 5\nPARAMETER stop true").parameters() == {"stop": ["5", "true"]}


@pytest.mark.parametrize(
    "value", ["plain", " spaces ", 'say "hi"', 'two\n"lines"', "two\nlines", "", '"quoted"', "# no comment", "a\n\nb\n"]
)
def test_what_is_printed_is_read_back(value: str) -> None:
    commands = (Command("FROM", "", "x", 1), Command("SYSTEM", "", value, 2), Command("MESSAGE", "user", value, 3))
    found = parse(str(Modelfile(commands)))
    assert [(each.name, each.key, each.value) for each in found.commands] == [
        (each.name, each.key, each.value) for each in commands
    ]


@given(st.text(max_size=200) | st.text(alphabet='FROMSYTE x"\n#', max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ModelFileError:
        return
    assert found.sources


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("PARAMETER use_mmap 1", {"parameters": {"use_mmap": True}}),
        ("PARAMETER use_mmap F", {"parameters": {"use_mmap": False}}),
        ("PARAMETER negative_prompt 5", {"parameters": {"negative_prompt": "5"}}),
        ("MESSAGE USER hi", {"messages": [{"role": "user", "content": "hi"}]}),
        ("message Assistant hi", {"messages": [{"role": "assistant", "content": "hi"}]}),
    ],
)
def test_words_are_read_as_the_peer_reads_them(line: str, found: dict[str, Any]) -> None:
    assert parse(f"FROM x\n{line}").request() == found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_modelfile_is_read_in_the_encodings_that_editors_write(encoding: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    text = decode(f"{mark}FROM x\nSYSTEM Grüße\n".encode(encoding))
    assert parse(text).request() == {"system": "Grüße"}


@pytest.mark.parametrize("data", [b"\xff", b"FROM \xe9", b"\xff\xfea"])
def test_what_is_no_text_is_no_modelfile(data: bytes) -> None:
    with pytest.raises(ModelFileError, match="is not text"):
        decode(data)
