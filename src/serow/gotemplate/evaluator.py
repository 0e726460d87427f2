"""Runs a parsed template over data, as Go's text/template does with the option missingkey=zero that Ollama sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serow.errors import TemplateError
from serow.gotemplate import nodes
from serow.gotemplate.budget import MAX_DEPTH, MAX_TEXT, Budget, too_large
from serow.gotemplate.complaint import Complaint, shorten
from serow.gotemplate.constants import MAX_INT
from serow.gotemplate.functions import FUNCTIONS, Function
from serow.gotemplate.printf import format_values
from serow.gotemplate.quoting import quote
from serow.gotemplate.scope import Scope
from serow.gotemplate.values import (
    NO_ARGUMENT,
    NO_VALUE,
    Kind,
    Struct,
    encode,
    is_true,
    items,
    join_escapes,
    kind,
    replace_invalid,
    type_name,
)


class _Break(Exception):
    """Leaves the innermost range."""


class _Continue(Exception):
    """Goes on with the next element of the innermost range."""


class Evaluator:
    """One rendering of a template: `source` is its text, `trees` what it defines by name."""

    def __init__(self, source: str, trees: Mapping[str, nodes.List], budget: Budget) -> None:
        self._source = source
        self._trees = trees
        self._budget = budget
        self._out: list[str] = []
        self._size = 0
        self._depth = 0
        self._name = ""  # of the template that runs
        self._node: nodes.Node = nodes.Nil(0)  # what errors point at
        self._scope = _scope_of(NO_VALUE)

    def run(self, root: nodes.List, data: Mapping[str, Any]) -> str:
        """Render; raises TemplateError with Go's text and position, or when the budget is used up."""
        dot = dict(data)
        self._scope = _scope_of(dot)
        self._list(dot, root)
        return replace_invalid(join_escapes("".join(self._out)))

    def _error(self, message: str) -> TemplateError:
        before = self._source[: self._node.pos]
        line, column = before.count("\n") + 1, len(encode(before[before.rfind("\n") + 1 :]))
        place = f"template: :{line}:{column}: executing {shorten(quote(self._name))} at <{shorten(str(self._node))}>"
        return TemplateError(f"{place}: {shorten(message)}")

    def _enter(self) -> None:
        if self._depth >= MAX_DEPTH:
            raise self._error(f"exceeded maximum template depth ({MAX_DEPTH})")
        self._depth += 1

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_TEXT:
            raise too_large()
        self._out.append(text)

    # statements

    def _list(self, dot: Any, statements: nodes.List) -> None:
        self._enter()
        for statement in statements.nodes:
            self._statement(dot, statement)
        self._depth -= 1

    def _statement(self, dot: Any, node: nodes.Statement) -> None:
        self._budget.step()
        self._node = node
        match node:
            case nodes.Text():
                self._write(node.text)
            case nodes.Action():
                self._action(dot, node)
            case nodes.If() | nodes.With():
                self._if_or_with(dot, node)
            case nodes.Range():
                self._range(dot, node)
            case nodes.TemplateCall():
                self._template(dot, node)
            case nodes.Break():
                raise _Break
            case nodes.Continue():
                raise _Continue

    def _action(self, dot: Any, node: nodes.Action) -> None:
        value = self._pipeline(dot, node.pipe)
        if node.pipe.variables:
            return
        if isinstance(value, str):
            self._write(value)
        else:
            self._write("<no value>" if value is NO_VALUE else format_values(self._budget, [value]))

    def _if_or_with(self, dot: Any, node: nodes.If | nodes.With) -> None:
        size = len(self._scope)
        value = self._pipeline(dot, node.pipe)
        if is_true(value):
            self._list(value if isinstance(node, nodes.With) else dot, node.body)
        elif node.otherwise is not None:
            self._list(dot, node.otherwise)
        self._scope.release(size)

    def _range(self, dot: Any, node: nodes.Range) -> None:
        size = len(self._scope)
        value = self._pipeline(dot, node.pipe)
        elements = self._elements(value, len(node.pipe.variables))
        cells = [self._cell(variable.name) for variable in node.pipe.variables]
        inner, depth = len(self._scope), self._depth
        is_empty = True
        try:
            for index, element in elements:
                is_empty = False
                self._budget.step()
                for cell, part in zip(cells, (index, element)[2 - len(cells) :], strict=True):
                    cell[0] = part
                self._iteration(element, node.body)
                self._scope.release(inner)
                self._depth = depth
        except _Break:
            self._depth = depth
        if is_empty and node.otherwise is not None:
            self._list(dot, node.otherwise)
        self._scope.release(size)

    def _iteration(self, element: Any, body: nodes.List) -> None:
        try:
            self._list(element, body)
        except _Continue:
            return

    def _elements(self, value: Any, num_variables: int) -> Iterator[tuple[Any, Any]]:
        """Index and element of everything a range goes over."""
        match kind(value):
            case Kind.NIL:
                return iter(())
            case Kind.INT | Kind.UINT if num_variables < 2:
                return ((NO_VALUE, number) for number in range(value))
            case Kind.INT | Kind.UINT:
                raise self._error(f"can't use {value} to iterate over more than one variable")
            case Kind.SLICE:
                return iter(enumerate(items(value)))
            case Kind.MAP:
                self._budget.step(len(value))
                return ((key, value[key]) for key in sorted(value))
            case _:
                raise self._error(f"range can't iterate over {format_values(self._budget, [value])}")

    def _template(self, dot: Any, node: nodes.TemplateCall) -> None:
        tree = self._trees.get(node.name)
        if tree is None:
            raise self._error(f"template {quote(node.name)} not defined")
        dot = NO_VALUE if node.pipe is None else self._pipeline(dot, node.pipe)
        outer = self._scope, self._name
        self._scope, self._name = _scope_of(dot), node.name
        self._list(dot, tree)
        self._scope, self._name = outer

    # expressions

    def _pipeline(self, dot: Any, pipe: nodes.Pipe) -> Any:
        """The value of a pipeline, NO_VALUE in place of nil."""
        self._node = pipe
        value: Any = NO_ARGUMENT
        self._enter()
        for command in pipe.commands:
            value = self._command(dot, command, value)
            value = NO_VALUE if value is None else value
        self._depth -= 1
        for variable in pipe.variables:
            if pipe.is_assignment:
                self._cell(variable.name)[0] = value
            else:
                self._scope.declare(variable.name, value)
        return value

    def _command(self, dot: Any, command: nodes.Command, final: Any) -> Any:
        """The value of a command; `final` is what was piped into it, its last argument."""
        self._budget.step()
        first = command.operands[0]
        has_arguments = len(command.operands) > 1 or final is not NO_ARGUMENT
        self._node = first
        match first:
            case nodes.Identifier():
                return self._call(dot, first, command, command.operands[1:], final)
            case nodes.Field():
                return self._fields(dot, first.names, has_arguments)
            case nodes.Chain():
                return self._fields(self._term(dot, first.term), first.names, has_arguments)
            case nodes.Variable() if first.names:
                return self._fields(self._cell(first.name)[0], first.names, has_arguments)
        if has_arguments:
            raise self._error(f"can't give argument to non-function {first}")
        if isinstance(first, nodes.Nil):
            raise self._error("nil is not a command")
        return self._operand(dot, first)

    def _term(self, dot: Any, term: nodes.Pipe | nodes.Identifier) -> Any:
        return self._pipeline(dot, term) if isinstance(term, nodes.Pipe) else self._call(dot, term, term, (), NO_ARGUMENT)

    def _operand(self, dot: Any, node: nodes.Operand) -> Any:
        """The value of an operand that is given no arguments."""
        self._budget.step()
        self._node = node
        match node:
            case nodes.Dot():
                return dot
            case nodes.Nil():
                return None
            case nodes.Bool() | nodes.String():
                return node.value
            case nodes.Number():
                return self._number(node)
            case nodes.Field():
                return self._fields(dot, node.names)
            case nodes.Variable():
                return self._fields(self._cell(node.name)[0], node.names)
            case nodes.Chain():
                return self._fields(self._term(dot, node.term), node.names)
            case nodes.Pipe() | nodes.Identifier():
                return self._term(dot, node)

    def _cell(self, name: str) -> list[Any]:
        """The cell of a variable; the parser lets an assignment to an undeclared one pass, as Go's does."""
        if name not in self._scope:
            raise self._error(f"undefined variable: {name}")
        return self._scope.cell(name)

    def _number(self, node: nodes.Number) -> complex:
        if isinstance(node.value, int) and node.value > MAX_INT:
            raise self._error(f"{node} overflows int")
        return node.value

    def _fields(self, receiver: Any, names: Sequence[str], has_arguments: bool = False) -> Any:
        """Follow a chain of fields. What a map holds is an interface {} to Go, and error texts say so."""
        static_type = ""
        for position, name in enumerate(names, 1):
            is_map = isinstance(receiver, dict)
            receiver = self._field(receiver, name, static_type, has_arguments and position == len(names))
            static_type = "interface {}" if is_map else ""
        return receiver

    def _field(self, receiver: Any, name: str, static_type: str, has_arguments: bool) -> Any:
        if receiver is NO_VALUE:
            return NO_VALUE
        if receiver is None:
            raise self._error(f"nil pointer evaluating interface {{}}.{name}")
        if isinstance(receiver, dict):
            if has_arguments:
                raise self._error(f"{name} is not a method but has arguments")
            return receiver.get(name)
        if not isinstance(receiver, Struct) or name not in receiver.fields:
            raise self._error(f"can't evaluate field {name} in type {static_type or type_name(receiver)}")
        if has_arguments:
            raise self._error(f"{name} has arguments but cannot be invoked as function")
        return receiver.fields[name]

    # calls

    def _call(
        self, dot: Any, node: nodes.Identifier, command: nodes.Node, operands: Sequence[nodes.Operand], final: Any
    ) -> Any:
        function = FUNCTIONS[node.name]
        self._check_count(node.name, function, len(operands), final is not NO_ARGUMENT)
        if node.name in ("and", "or"):
            return self._short_circuit(dot, node.name, operands, final)
        arguments = [self._argument(dot, operand, function.parameter(position)) for position, operand in enumerate(operands)]
        if final is not NO_ARGUMENT:
            arguments.append(self._checked(final, function.parameter(len(arguments))))
        self._budget.text(sum(len(argument) for argument in arguments if isinstance(argument, str)))
        try:
            if node.name == "call":
                raise _no_function(arguments[0], str(operands[0]) if operands else final)
            return function.call(self._budget, arguments)
        except Complaint as complaint:
            self._node = command
            raise self._error(f"error calling {node.name}: {complaint}") from None

    def _check_count(self, name: str, function: Function, num_operands: int, has_final: bool) -> None:
        given, wanted = num_operands + has_final, len(function.parameters)
        if function.variadic is not None and given < wanted:
            raise self._error(f"wrong number of args for {name}: want at least {wanted} got {num_operands}")
        if function.variadic is None and given != wanted:
            raise self._error(f"wrong number of args for {name}: want {wanted} got {given}")

    def _short_circuit(self, dot: Any, name: str, operands: Sequence[nodes.Operand], final: Any) -> Any:
        """`and` gives the first argument that is false, `or` the first that is true, each otherwise the last."""
        value: Any = None
        for operand in operands:
            value = self._argument(dot, operand, "any")
            if is_true(value) == (name == "or"):
                return value
        return value if final is NO_ARGUMENT else final

    def _argument(self, dot: Any, operand: nodes.Operand, parameter: str) -> Any:
        if parameter == "string" and isinstance(operand, nodes.Bool | nodes.Number | nodes.Nil):
            self._node = operand
            is_nil = isinstance(operand, nodes.Nil)
            raise self._error("cannot assign nil to string" if is_nil else f"expected string; found {operand}")
        return self._checked(self._operand(dot, operand), parameter)

    def _checked(self, value: Any, parameter: str) -> Any:
        """An argument as its parameter takes it."""
        if parameter == "string" and not isinstance(value, str):
            if value is NO_VALUE:
                raise self._error("invalid value; expected string")
            got = "interface {}" if value is None else type_name(value)
            raise self._error(f"wrong type for value; expected string; got {got}")
        return None if value is NO_VALUE else value


def _scope_of(dot: Any) -> Scope:
    scope = Scope()
    scope.declare("$", dot)
    return scope


def _no_function(value: Any, name: Any) -> Complaint:
    """What `call` says: no value here is a function."""
    if kind(value) is Kind.NIL:
        return Complaint("call of nil")
    return Complaint(f"non-function {name} of type {type_name(value)}")
