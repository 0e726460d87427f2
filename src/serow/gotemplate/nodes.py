"""The tree of a parsed template. `str(node)` is the node's source in Go's normal form, as error texts show it.

`pos` is the index of the node's first character in the template's text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from serow.gotemplate.quoting import quote


@dataclass(frozen=True)
class Node:
    """Base of every node."""

    pos: int


@dataclass(frozen=True)
class Dot(Node):
    """`.`, the cursor."""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True)
class Nil(Node):
    """`nil`, the untyped constant."""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True)
class Bool(Node):
    """`true` or `false`."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True)
class Number(Node):
    """A number or character constant; an int may be beyond 64 bits, which is an error once it is evaluated."""

    source: str
    value: complex  # an int or a float too

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True)
class String(Node):
    """A string constant, quoted or raw."""

    source: str
    value: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True)
class Identifier(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Field(Node):
    """`.A.B`: fields of the cursor."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True)
class Variable(Node):
    """`$x.A.B`: a variable and fields of it."""

    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True)
class Chain(Node):
    """`(pipeline).A.B`: fields of a term."""

    term: "Pipe | Identifier"
    names: tuple[str, ...]

    def __str__(self) -> str:
        term = f"({self.term})" if isinstance(self.term, Pipe) else str(self.term)
        return ".".join((term, *self.names))


@dataclass(frozen=True)
class Command(Node):
    """An operand and its arguments."""

    operands: "tuple[Operand, ...]"

    def __str__(self) -> str:
        return " ".join(f"({operand})" if isinstance(operand, Pipe) else str(operand) for operand in self.operands)


@dataclass(frozen=True)
class Pipe(Node):
    """`$x := command | command`."""

    variables: tuple[Variable, ...]
    is_assignment: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(map(str, self.variables))} {'=' if self.is_assignment else ':='} {commands}"


Operand: TypeAlias = Dot | Nil | Bool | Number | String | Identifier | Field | Variable | Chain | Pipe


@dataclass(frozen=True)
class Text(Node):
    """What stands between the actions."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Action(Node):
    """`{{pipeline}}`: prints its value, or declares variables."""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True)
class Branch(Node):
    """Base of `if`, `with` and `range`; `otherwise` is the list after `else`."""

    pipe: Pipe
    body: "List"
    otherwise: "List | None"

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else f"{{{{else}}}}{self.otherwise}"
        return f"{{{{{type(self).__name__.lower()} {self.pipe}}}}}{self.body}{otherwise}{{{{end}}}}"


@dataclass(frozen=True)
class If(Branch):
    """`{{if pipeline}}`."""


@dataclass(frozen=True)
class With(Branch):
    """`{{with pipeline}}`: sets the cursor."""


@dataclass(frozen=True)
class Range(Branch):
    """`{{range pipeline}}`: sets the cursor to every element."""


@dataclass(frozen=True)
class TemplateCall(Node):
    """`{{template "name" pipeline}}`."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        argument = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{argument}}}}}"


@dataclass(frozen=True)
class Break(Node):
    """`{{break}}`."""

    def __str__(self) -> str:
        return "{{break}}"


@dataclass(frozen=True)
class Continue(Node):
    """`{{continue}}`."""

    def __str__(self) -> str:
        return "{{continue}}"


@dataclass(frozen=True)
class List(Node):
    """What stands between two keywords, in order."""

    nodes: "tuple[Statement, ...]"

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


Statement: TypeAlias = Text | Action | If | With | Range | TemplateCall | Break | Continue


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below, in the order of the source."""
    match node:
        case List():
            yield from node.nodes
        case Branch():
            yield from (node.pipe, node.body)
            if node.otherwise is not None:
                yield node.otherwise
        case Action() | TemplateCall():
            if node.pipe is not None:
                yield node.pipe
        case Pipe():
            yield from node.commands
        case Command():
            yield from node.operands
        case Chain():
            yield node.term


def descend(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from descend(child)
