"""Random templates, most of them valid, over the fixed data DATA: what the differential test renders here and in Go."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MESSAGE = {
    "Role": "user",
    "Content": "b<c>",
    "Thinking": "",
    "Images": None,
    "ToolCalls": None,
    "ToolName": "",
    "ToolCallID": "",
}
DATA: dict[str, Any] = {
    "System": "Be & brief.\n",
    "Prompt": 'say "héllo" to\t<b>',
    "Empty": "",
    "Emoji": "a😀\u2028é\x01\u200b",
    "Zero": 0,
    "Three": 3,
    "Minus": -42,
    "Big": 9007199254740993,
    "Half": 0.5,
    "Large": 1e21,
    "Small": -1.25e-7,
    "Long": 123456789.0,
    "Yes": True,
    "No": False,
    "Nil": None,
    "List": ["x", "y", "z"],
    "Mixed": [1, "two", 3.5, True, None, ["in", 4], {"k": "v"}],
    "None": [],
    "Map": {"b": 1, "a": "A", "c": {"d": [1, 2], "e": None}},
    "NoMap": {},
    "Messages": [{**MESSAGE, "Role": "system", "Content": "S"}, MESSAGE],
}
STRINGS = (".System", ".Prompt", ".Empty", ".Emoji", '"z"', "`raw\\n`")
INTS = (".Zero", ".Three", ".Minus", ".Big", "1", "'q'")
FLOATS = (".Half", ".Large", ".Small", ".Long", "1.5")
LISTS = (".List", ".Mixed", ".None", ".Messages")
OTHERS = (".Yes", ".No", ".Map", ".NoMap", ".Nil", ".Role", ".Content")
PATHS = (".Map.b", ".Map.c.d", ".Map.c.e", ".Nope", "$", ".")
_LITERALS = (
    "1 -7 0x1F 0b101 0o17 017 1_000 1.5 1e3 .5 -0.0 1e21 1e-7 0x1p-2 'a' 'é' '\\n' '\\x41' '\\'' 1i 2+3i true false nil "
    '"a" "" "é\\n\\t\\"" "\\xff" "\\u00e9" "\\U0001F600"'
)
LITERALS = _LITERALS.split()
TEXTS = ("a", " ", "\n", " b \n ", "<|im_start|>", "é", "{", "}", "-")
STAGES = ("html", "js", "urlquery", "len", "json", "print", 'printf "%v|%q"', "not", "eq 3", "index .Map", "and 1", "or 0")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
VERBS = "vvvsqdxXobcUeEfFgGtTOwz"


class Generator:
    """Makes one template after the other; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._variables: list[str] = []

    def template(self) -> str:
        """The source of a template; a few are broken at a random place."""
        self._variables = []
        definition = '{{define "t"}}' + self._list(2) + "{{end}}" if self._chance(0.2) else ""
        source = self._print() if self._chance(0.4) else definition + self._list(0)
        if self._chance(0.06):
            cut = self._random.randrange(len(source) + 1)
            return source[:cut] + self._pick(["", "{{", "}}", "|", "$", "(", '"', "-", " ", ","]) + source[cut + 1 :]
        return source

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _pick(self, options: Sequence[str]) -> str:
        return self._random.choice(options)

    def _make(self, *makers: Callable[[], str]) -> str:
        return self._random.choice(makers)()

    def _action(self, inside: str) -> str:
        left, right = self._pick(["{{", "{{", "{{ ", "{{- "]), self._pick(["}}", "}}", " }}", " -}}"])
        return f"{left}{inside}{right}"

    # statements

    def _list(self, depth: int) -> str:
        size = len(self._variables)
        text = "".join(self._statement(depth) for _ in range(self._random.randint(1, 4 - depth)))
        del self._variables[size:]
        return text

    def _statement(self, depth: int) -> str:
        simple = (lambda: self._pick(TEXTS), self._print, self._print, self._print, self._declare, self._assign, self._comment)
        if depth > 2:
            return self._make(*simple)
        return self._make(
            *simple,
            lambda: self._branch("if", self._pipeline(2), depth),
            lambda: self._branch("with", self._pipeline(1), depth),
            lambda: self._range(depth),
            self._call,
            self._block,
        )

    def _comment(self) -> str:
        return self._pick(["{{/* c {{ */}}", "{{- /* c */}}", "{{/* c */ -}}", "{{- /* \n */ -}}"])

    def _print(self) -> str:
        return self._action(self._pipeline(2))

    def _declare(self) -> str:
        value = self._pipeline(1)
        self._variables.append(f"$v{len(self._variables)}")
        return self._action(f"{self._variables[-1]} := {value}")

    def _assign(self) -> str:
        return self._action(f"{self._pick([*self._variables * 3, '$'])} = {self._pipeline(1)}")

    def _call(self) -> str:
        return self._action(
            f'template "{self._pick(["t", "t", "t", "nope"])}" ' + self._pick(["$", "$", "$", "", self._pipeline(1)])
        )

    def _block(self) -> str:
        head = f'block "b{self._random.random()}" {self._pick(["$", "$", self._pipeline(1)])}'
        outer, self._variables = self._variables, []
        body = self._list(2)
        self._variables = outer
        return self._action(head) + body + "{{end}}"

    def _branch(self, keyword: str, head: str, depth: int, extra: str = "") -> str:
        body = self._action(f"{keyword} {head}") + self._list(depth + 1) + extra
        return body + self._else(keyword, depth) + self._action("end")

    def _else(self, keyword: str, depth: int) -> str:
        roll = self._random.random()
        if roll < 0.4:
            return ""
        condition = f" {keyword} {self._pipeline(1)}" if roll < 0.6 and keyword != "range" else ""
        return self._action(f"else{condition}") + self._list(depth + 1)

    def _range(self, depth: int) -> str:
        source = self._root(self._pick([".Map", ".Three", ".NoMap", "2", ".Nil", ".Prompt", *LISTS]))
        size = len(self._variables)
        fresh = [f"$v{size + i}" for i in range(self._random.randrange(3))]
        self._variables += fresh
        jump = "{{if " + self._pipeline(1) + "}}{{" + self._pick(["break", "continue"]) + "}}{{end}}."
        head = f"{', '.join(fresh)} := {source}" if fresh else source
        made = self._branch("range", head, depth, jump if self._chance(0.3) else "")
        del self._variables[size:]
        return made

    # expressions

    def _pipeline(self, depth: int) -> str:
        stages = [self._make(self._operand, self._operand, lambda: self._function(depth))]
        while self._chance(0.2):
            stages.append(self._pick(STAGES))
        return " | ".join(stages)

    def _operand(self) -> str:
        kinds = [STRINGS, STRINGS, INTS, FLOATS, LISTS, OTHERS, PATHS, LITERALS, self._variables or LISTS]
        return self._root(self._pick(self._random.choice(kinds)))

    def _root(self, operand: str) -> str:
        """Mostly read a field from the data, wherever the cursor is."""
        return (
            f"${operand}"
            if operand.startswith(".") and not operand[1:2].isdigit() and operand != "." and self._chance(0.9)
            else operand
        )

    def _arguments(self, depth: int, low: int, high: int) -> str:
        return " ".join(self._argument(depth) for _ in range(self._random.randint(low, high)))

    def _argument(self, depth: int) -> str:
        return f"({self._pipeline(depth - 1)})" if depth and self._chance(0.25) else self._operand()

    def _function(self, depth: int) -> str:
        return self._make(
            lambda: f"{self._pick(['and', 'or'])} {self._arguments(depth, 1, 3)}",
            lambda: f"{self._pick(COMPARISONS)} {self._arguments(depth, 1, 3)}",
            self._comparison,
            lambda: f"{self._pick(['not', 'len', 'json', 'call'])} {self._arguments(depth, 1, 1)}",
            lambda: f"{self._pick(['print', 'println', 'html', 'js', 'urlquery'])} {self._arguments(depth, 0, 3)}",
            lambda: f"index {self._root(self._pick(LISTS))} {self._random.randrange(4)}",
            lambda: f"(index $.Messages {self._random.randrange(3)}).{self._pick(['Role', 'Content', 'Foo'])}",
            lambda: f"index {self._pick(['$.Map', '$.Map.c', '$.Mixed', '$.Emoji'])} {self._operand()}",
            lambda: f"slice {self._root(self._pick([*STRINGS, *LISTS]))} {self._numbers()}",
            lambda: f"printf {self._format()} {self._arguments(depth, 0, 3)}",
            lambda: f"printf {self._format()} {self._arguments(depth, 1, 2)}",
            lambda: self._pick(["currentDate", "yesterdayDate"]) + self._pick(["", ' "x"', " .Three", " nil"]),
        )

    def _comparison(self) -> str:
        kind = self._random.choice([INTS, STRINGS, FLOATS])
        return f"{self._pick(COMPARISONS)} {self._root(self._pick(kind))} {self._root(self._pick(kind))}"

    def _numbers(self) -> str:
        return " ".join(str(self._random.randrange(5)) for _ in range(self._random.randrange(4)))

    def _format(self) -> str:
        verbs = "".join(self._verb() for _ in range(self._random.randint(1, 3)))
        return f'"{verbs}{self._pick(["", "", "", "%%", "%"])}"'

    def _verb(self) -> str:
        flags = "".join(self._random.sample("+-# 0", self._random.choice([0, 0, 0, 1, 1, 2])))
        width = self._pick(["", "", "", "8", "12", "*", "[1]", "[2]*", "[9]"])
        precision = self._pick(["", "", "", ".0", ".3", ".12", ".", ".*"])
        return self._pick(["", "a", "é"]) + f"%{flags}{width}{precision}{self._pick(VERBS)}"
