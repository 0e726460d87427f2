"""Parser of Go's text/template: recursive descent over the tokens, error texts and lines as Go gives them."""

from collections.abc import Iterator
from contextlib import contextmanager

from serow.errors import TemplateError
from serow.gotemplate import nodes
from serow.gotemplate.budget import MAX_DEPTH, MAX_SOURCE, MAX_TOKENS
from serow.gotemplate.complaint import shorten
from serow.gotemplate.constants import read_complex, read_number
from serow.gotemplate.functions import FUNCTIONS
from serow.gotemplate.lexer import Token, lex
from serow.gotemplate.quoting import quote, unquote, unquote_rune
from serow.gotemplate.scope import Scope

_OPERANDS = frozenset(
    {"bool", "char constant", "complex", ".", "field", "identifier", "number", "nil", "string", "variable", "("}
)
_LITERALS = (nodes.Bool, nodes.String, nodes.Number, nodes.Nil, nodes.Dot)
_BRANCHES: dict[str, type[nodes.If] | type[nodes.With] | type[nodes.Range]] = {
    "if": nodes.If,
    "with": nodes.With,
    "range": nodes.Range,
}
_End = Token  # what ended a list: the keyword token `end` or `else`


def parse_trees(text: str) -> dict[str, nodes.List]:
    """Parse a template: its tree under the name "", and those it defines; raises TemplateError with Go's text and line."""
    if len(text) > MAX_SOURCE:
        raise TemplateError(f"template: longer than {MAX_SOURCE} characters")
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = lex(text)
        self._last = Token("eof", 0, "EOF", 1)
        self._count = 0
        self._pushed: list[Token] = []
        self._variables = _new_scope()
        self._ranges = 0  # how many {{range}} are open
        self._depth = 0
        self._action_line = 0
        self._trees: dict[str, nodes.List] = {}

    def parse(self) -> dict[str, nodes.List]:
        """Parse to the end of the text."""
        start = self._peek().pos
        statements: list[nodes.Statement] = []
        while self._peek().kind != "eof":
            if self._at_define():
                self._define()
                continue
            statement = self._statement()
            if isinstance(statement, Token):
                raise self._error(f"unexpected {{{{{statement.kind}}}}}")
            statements.append(statement)
        self._add("", nodes.List(start, tuple(statements)))
        return self._trees

    # tokens

    def _next(self) -> Token:
        if self._pushed:
            return self._pushed.pop()
        self._count += 1
        if self._count > MAX_TOKENS:
            raise TemplateError(f"template: more than {MAX_TOKENS} words and signs")
        self._last = next(self._tokens, self._last)
        return self._last

    def _push(self, *tokens: Token) -> None:
        """Put tokens back, in the order they came."""
        self._pushed.extend(reversed(tokens))

    def _peek(self) -> Token:
        token = self._next()
        self._push(token)
        return token

    def _next_word(self) -> Token:
        """The next token that is not space."""
        token = self._next()
        return self._next() if token.kind == "space" else token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._push(token)
        return token

    def _expect(self, kind: str, context: str) -> Token:
        token = self._next_word()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    # errors

    def _error(self, message: str) -> TemplateError:
        return TemplateError(f"template: :{self._last.line}: {shorten(message)}")

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind != "error":
            return self._error(f"unexpected {token} in {context}")
        if self._action_line in (0, token.line):
            return self._error(token.text)
        action = "" if token.text.endswith(" action") else " in action"
        return self._error(f"{token}{action} started at :{self._action_line}")

    @contextmanager
    def _deeper(self, complaint: str) -> Iterator[None]:
        if self._depth >= MAX_DEPTH:
            raise self._error(complaint)
        self._depth += 1
        yield
        self._depth -= 1

    # statements

    def _at_define(self) -> bool:
        """Consume `{{define` if it is next."""
        left = self._next()
        if left.kind != "left":
            self._push(left)
            return False
        word = self._next_word()
        if word.kind == "define":
            return True
        self._push(left, word)
        return False

    def _define(self) -> None:
        context = "define clause"
        name = self._name(self._next_word(), context)
        self._expect("right", context)
        self._add(name, self._definition(context))

    def _definition(self, context: str) -> nodes.List:
        """The list up to `{{end}}`, in a scope of its own."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = _new_scope(), 0
        body, end = self._list()
        if end.kind != "end":
            raise self._error(f"unexpected {{{{{end.kind}}}}} in {context}")
        self._variables, self._ranges = outer
        return body

    def _add(self, name: str, tree: nodes.List) -> None:
        known = self._trees.get(name)
        if known is None or _is_empty(known):
            self._trees[name] = tree
        elif not _is_empty(tree):
            raise self._error(f"template: multiple definition of template {quote(name)}")

    def _list(self) -> tuple[nodes.List, _End]:
        """Statements up to `{{end}}` or `{{else}}`, which is returned as well."""
        start = self._peek_word().pos
        statements: list[nodes.Statement] = []
        with self._deeper("max nesting depth exceeded"):
            while self._peek_word().kind != "eof":
                statement = self._statement()
                if isinstance(statement, Token):
                    return nodes.List(start, tuple(statements)), statement
                statements.append(statement)
        raise self._error("unexpected EOF")

    def _statement(self) -> nodes.Statement | _End:
        token = self._next_word()
        if token.kind == "text":
            return nodes.Text(token.pos, token.text)
        if token.kind != "left":
            raise self._unexpected(token, "input")
        self._action_line = token.line
        statement = self._action()
        self._action_line = 0
        return statement

    def _action(self) -> nodes.Statement | _End:
        token = self._next_word()
        match token.kind:
            case "if" | "with" | "range":
                return self._branch(token.kind)
            case "break" | "continue":
                return self._jump(token)
            case "template":
                return self._template()
            case "block":
                return self._block()
            case "end":
                self._expect("right", "end")
                return token
            case "else":
                return self._else(token)
        self._push(token)
        return nodes.Action(token.pos, self._pipeline("command", "right"))

    def _else(self, token: Token) -> _End:
        if self._peek_word().kind not in ("if", "with"):
            self._expect("right", "else")
        return token

    def _jump(self, token: Token) -> nodes.Break | nodes.Continue:
        self._expect("right", f"{{{{{token.kind}}}}}")
        if not self._ranges:
            raise self._error(f"{{{{{token.kind}}}}} outside {{{{range}}}}")
        return nodes.Break(token.pos) if token.kind == "break" else nodes.Continue(token.pos)

    def _branch(self, keyword: str) -> nodes.If | nodes.With | nodes.Range:
        mark = len(self._variables)
        pipe = self._pipeline(keyword, "right")
        self._ranges += keyword == "range"
        body, end = self._list()
        self._ranges -= keyword == "range"
        otherwise = self._otherwise(keyword, end) if end.kind == "else" else None
        self._variables.release(mark)
        return _BRANCHES[keyword](pipe.pos, pipe, body, otherwise)

    def _otherwise(self, keyword: str, start: Token) -> nodes.List:
        """The list after `else`; `else if` and `else with` share the `end` of what they follow."""
        if keyword != "range" and self._peek().kind == keyword:
            with self._deeper("max nesting depth exceeded"):
                return nodes.List(self._next().pos, (self._branch(keyword),))
        body, end = self._list()
        if end.kind != "end":
            raise self._error(f"expected end; found {{{{{end.kind}}}}}")
        return body

    def _template(self) -> nodes.TemplateCall:
        context = "template clause"
        token = self._next_word()
        name = self._name(token, context)
        if self._peek_word().kind == "right":
            self._next()
            return nodes.TemplateCall(token.pos, name, None)
        return nodes.TemplateCall(token.pos, name, self._pipeline(context, "right"))

    def _block(self) -> nodes.TemplateCall:
        context = "block clause"
        token = self._next_word()
        name = self._name(token, context)
        pipe = self._pipeline(context, "right")
        self._add(name, self._definition(context))
        return nodes.TemplateCall(token.pos, name, pipe)

    def _name(self, token: Token, context: str) -> str:
        if token.kind != "string":
            raise self._unexpected(token, context)
        return self._string(token).value

    # pipelines

    def _pipeline(self, context: str, end: str) -> nodes.Pipe:
        start = self._peek_word().pos
        variables, is_assignment = self._declarations(context)
        commands: list[nodes.Command] = []
        while (token := self._next_word()).kind != end:
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._push(token)
            commands.append(self._command())
        if not commands:
            raise self._error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.operands[0], _LITERALS):
                raise self._error(f"non executable command in pipeline stage {stage}")
        return nodes.Pipe(start, tuple(variables), is_assignment, tuple(commands))

    def _declarations(self, context: str) -> tuple[list[nodes.Variable], bool]:
        """`$x :=`, `$x =` or, in a range, `$i, $x :=` (or `=`); nothing when a variable is an argument."""
        found: list[nodes.Variable] = []
        while self._peek_word().kind == "variable":
            token = self._next()
            space = self._peek()
            follower = self._peek_word()
            if follower.kind not in ("assign", "declare") and follower.text != ",":
                self._push(token, *([space] if space.kind == "space" else []))
                break
            self._next()
            found.append(nodes.Variable(token.pos, token.text))
            self._variables.declare(token.text)
            if follower.text != ",":
                return found, follower.kind == "assign"
            if context != "range" or len(found) == 2:
                raise self._error(f"too many declarations in {context}")
            if self._peek_word().kind not in ("variable", "right", ")"):
                raise self._error("range can only initialize variables")
        return found, False

    def _command(self) -> nodes.Command:
        start = self._peek_word().pos
        operands: list[nodes.Operand] = []
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("right", ")"):
                self._push(token)
            elif token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not operands:
            raise self._error("empty command")
        return nodes.Command(start, tuple(operands))

    def _operand(self) -> nodes.Operand | None:
        """A term and the fields behind it; None when no term is next."""
        term = self._term()
        field = self._peek()
        if term is None or field.kind != "field":
            return term
        names: list[str] = []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        match term:
            case nodes.Field():
                return nodes.Field(field.pos, (*term.names, *names))
            case nodes.Variable():
                return nodes.Variable(field.pos, term.name, (*term.names, *names))
            case nodes.Pipe() | nodes.Identifier():
                return nodes.Chain(field.pos, term, tuple(names))
        raise self._error(f"unexpected . after term {quote(str(term))}")

    def _term(self) -> nodes.Operand | None:
        token = self._next_word()
        match token.kind:
            case "identifier":
                if token.text not in FUNCTIONS:
                    raise self._error(f"function {quote(token.text)} not defined")
                return nodes.Identifier(token.pos, token.text)
            case ".":
                return nodes.Dot(token.pos)
            case "nil":
                return nodes.Nil(token.pos)
            case "variable":
                return self._variable(token)
            case "field":
                return nodes.Field(token.pos, (token.text[1:],))
            case "bool":
                return nodes.Bool(token.pos, token.text == "true")
            case "char constant" | "complex" | "number":
                return self._constant(token)
            case "string":
                return self._string(token)
            case "(":
                with self._deeper("max expression depth exceeded"):
                    return self._pipeline("parenthesized pipeline", ")")
        self._push(token)
        return None

    def _variable(self, token: Token) -> nodes.Variable:
        if token.text not in self._variables:
            raise self._error(f"undefined variable {quote(token.text)}")
        return nodes.Variable(token.pos, token.text)

    def _constant(self, token: Token) -> nodes.Number:
        read = {"number": read_number, "complex": read_complex, "char constant": unquote_rune}[token.kind]
        try:
            return nodes.Number(token.pos, token.text, read(token.text))
        except ValueError as error:
            raise self._error(str(error)) from None

    def _string(self, token: Token) -> nodes.String:
        try:
            return nodes.String(token.pos, token.text, unquote(token.text))
        except ValueError as error:
            raise self._error(str(error)) from None


def _new_scope() -> Scope:
    scope = Scope()
    scope.declare("$")
    return scope


def _is_empty(tree: nodes.List) -> bool:
    """Whether a tree holds nothing but space."""
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in tree.nodes)
