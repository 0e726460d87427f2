"""Modelfiles: the recipe of a model as text, read and printed as Ollama does.

    file     = { blank | comment | command }
    comment  = "#" …
    command  = FROM value | TOKENIZER value | ADAPTER value | DRAFT value | TEMPLATE value | SYSTEM value | LICENSE value
             | PARAMETER name value | MESSAGE role value | REQUIRES value | RENDERER value | PARSER value
    value    = the rest of the line; that of ADAPTER may end with a weight
             | a double quote … a double quote at the end of a line, this one or a later one
             | three double quotes … three double quotes at the end of a line, this one or a later one

Commands are read in any case. `stop` may come several times, so may FROM, ADAPTER, LICENSE and MESSAGE; of the others the last
wins.
"""

import codecs
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from serow.errors import ModelFileError, RequestError
from serow.options import MOST_WEIGHT, read_option
from serow.store.lora import name_of

_COMMANDS = (
    *("FROM", "TOKENIZER", "ADAPTER", "DRAFT", "TEMPLATE", "SYSTEM", "LICENSE", "PARAMETER", "MESSAGE"),
    *("REQUIRES", "RENDERER", "PARSER"),
)
_RETIRED = ("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "num_gqa", "tfs_z", "numa")
_ROLES = ("system", "user", "assistant")
SEMVER = re.compile(r"v?\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_WEIGHT = re.compile(  # of an adapter, behind its path
    r"(.+\.\w+)[ \t]+([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf))", re.ASCII | re.IGNORECASE
)
_WORD = re.compile(r"[ \t]*([A-Za-z0-9_]+)(?:[ \t]+|$)")


class Command(NamedTuple):
    """One command. `key` is the name of a PARAMETER or the role of a MESSAGE, "" for others."""

    name: str
    key: str
    value: str
    line: int

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.key, quote(self.value)) if part)


@dataclass(frozen=True)
class Modelfile:
    """A Modelfile, read and checked. `warnings` name what has no effect."""

    commands: tuple[Command, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """What FROM names: models, or paths of files beside the Modelfile."""
        return self._values("FROM")

    @property
    def tokenizer(self) -> str:
        """What TOKENIZER names: the folder of a tokenizer, "" when there is none."""
        return "".join(self._values("TOKENIZER")[-1:])

    @property
    def adapters(self) -> tuple[str, ...]:
        """What ADAPTER names: paths."""
        return tuple(path for path, _ in map(_weighed, self._values("ADAPTER")))

    @property
    def adapter_weights(self) -> dict[str, float]:
        """Weights that ADAPTER lines give, by the names of the adapters."""
        found = (_weighed(value) for value in self._values("ADAPTER"))
        return {name_of(path): weight for path, weight in found if weight is not None}

    @property
    def drafts(self) -> tuple[str, ...]:
        """What DRAFT names: paths."""
        return self._values("DRAFT")

    def request(self) -> dict[str, Any]:
        """The body of POST /api/create, without `model`, `from`, `files`, `adapters` and `draft_files`."""
        fields: dict[str, Any] = {
            "template": "".join(self._values("TEMPLATE")[-1:]),
            "system": "".join(self._values("SYSTEM")[-1:]),
            "license": list(self._values("LICENSE")),
            "parameters": self.parameters(),
            "messages": [
                {"role": command.key, "content": command.value} for command in self.commands if command.name == "MESSAGE"
            ],
        }
        fields |= {name.lower(): "".join(self._values(name)[-1:]) for name in ("RENDERER", "PARSER", "REQUIRES")}
        return {name: value for name, value in fields.items() if value}

    def parameters(self) -> dict[str, Any]:
        """PARAMETER lines as `options` has them: typed, `stop` a list."""
        found: dict[str, Any] = {}
        for command in self.commands:
            if command.name == "PARAMETER" and command.key == "stop":
                found.setdefault("stop", []).append(command.value)
            elif command.name == "PARAMETER":
                found[command.key] = read_option(command.key, [command.value])
        if weights := self.adapter_weights:
            found["adapters"] = weights
        return found

    def _values(self, name: str) -> tuple[str, ...]:
        return tuple(command.value for command in self.commands if command.name == name)

    def __str__(self) -> str:
        return "".join(f"{command}\n" for command in self.commands)


def parse(text: str) -> Modelfile:
    """Read a Modelfile; raises ModelFileError that names the line."""
    lines = _lines(text.removeprefix("\ufeff"))
    commands: list[Command] = []
    warnings: list[str] = []
    at = 0
    while at < len(lines):
        start, at = at, at + 1
        line = lines[start].strip()
        if not line or line.startswith("#"):
            continue
        name, key, first = _head(lines[start], start + 1)
        value, at = _value(first, lines, at)
        command = Command(name, key, value, start + 1)
        warning = _check(command)
        if warning:
            warnings.append(warning)
        else:
            commands.append(command)
    if not any(command.name == "FROM" for command in commands):
        raise ModelFileError("no FROM line")
    return Modelfile(tuple(commands), tuple(warnings))


def decode(data: bytes) -> str:
    """The text of a Modelfile: UTF-8, or what its byte order mark says, as Windows writes it; raises ModelFileError."""
    marks = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
    encoding = next((encoding for mark, encoding in marks if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise ModelFileError("the Modelfile is not text", hint="save it as UTF-8") from None


def quote(value: str) -> str:
    """A value as it can be read back, but for its line ends; raises ModelFileError when no quotes can hold it.

    A text that closes its own quotes would go on as commands: what is printed is read again before it is given out.
    """
    wanted = _lines(value)
    is_plain = bool(value) and len(wanted) == 1 and value == value.strip() and not value.startswith('"')
    for quoted in (*([value] if is_plain else []), *(f"{mark}{value}{mark}" for mark in ('"', '"""'))):
        first, *rest = _lines(quoted)
        try:
            if _value(first, rest, 0) == ("\n".join(wanted), len(rest)):
                return quoted
        except ModelFileError:
            continue
    raise ModelFileError("a text of the model can't be written in a Modelfile: it holds the quotes that would end it")


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _weighed(value: str) -> tuple[str, float | None]:
    """The path of an adapter, and the weight behind it."""
    match = _WEIGHT.fullmatch(value)
    if match is None:
        return value, None
    weight = float(match[2])
    if not abs(weight) <= MOST_WEIGHT:
        raise ModelFileError(f"ADAPTER {match[1]}: the weight behind it must be between -{MOST_WEIGHT:g} and {MOST_WEIGHT:g}")
    return match[1], weight


def _head(line: str, number: int) -> tuple[str, str, str]:
    """Command, key and where its value starts; raises ModelFileError."""
    word = _WORD.match(line)
    name = word[1].upper() if word else ""
    if word is None or name not in _COMMANDS:
        raise ModelFileError(f"line {number}: command must be one of {', '.join(_COMMANDS)}")
    rest = line[word.end() :]
    if name not in ("PARAMETER", "MESSAGE"):
        return name, "", _given(rest, name, number)
    key = _WORD.match(rest)
    if key is None:
        raise ModelFileError(f"line {number}: {name} needs a {'role' if name == 'MESSAGE' else 'name'} and a value")
    word_of_key = key[1].lower() if name == "MESSAGE" else key[1]
    return name, word_of_key, _given(rest[key.end() :], f"{name} {key[1]}", number)


def _given(value: str, what: str, number: int) -> str:
    if not value.strip():
        raise ModelFileError(f"line {number}: {what} needs a value")
    return value


def _value(first: str, lines: list[str], at: int) -> tuple[str, int]:
    """A value that starts with `first` and may go on at line `at`; returns it and the line after it."""
    start, gathered = at, [first.lstrip()]
    mark = next((mark for mark in ('"""', '"') if gathered[0].startswith(mark)), "")
    while mark and not _is_closed(gathered, mark):
        if at == len(lines):
            raise ModelFileError(f"line {start}: the quoted text has no end")
        gathered.append(lines[at])
        at += 1
    value = "\n".join(gathered).rstrip()
    return value[len(mark) : len(value) - len(mark)], at


def _is_closed(gathered: list[str], mark: str) -> bool:
    last = gathered[-1].rstrip()
    return last.endswith(mark) and (len(gathered) > 1 or len(last) >= 2 * len(mark))


def _check(command: Command) -> str:
    """Raise ModelFileError for a command that can't be right; return a warning for one without effect."""
    where = f"line {command.line}"
    if command.name == "MESSAGE" and command.key not in _ROLES:
        raise ModelFileError(f'{where}: message role must be one of "system", "user", or "assistant"')
    if command.name == "REQUIRES" and not SEMVER.fullmatch(command.value):
        raise ModelFileError(f"{where}: requires must be a valid semver (e.g. 0.14.0)")
    if command.name != "PARAMETER":
        return ""
    if command.key in _RETIRED:
        return f"{where}: parameter {command.key} has no effect any more"
    try:
        read_option(command.key, [command.value])
    except RequestError as error:
        raise ModelFileError(f"{where}: {error}", hint=error.hint) from None
    return ""
