"""A parsed template and what can be done with it."""

from collections.abc import Mapping
from typing import Any

from serow.gotemplate import analysis, nodes
from serow.gotemplate.budget import Budget
from serow.gotemplate.evaluator import Evaluator
from serow.gotemplate.parser import parse_trees


class Template:
    """A Go text/template with Ollama's functions (GEN-08). Immutable; one may be rendered any number of times."""

    def __init__(self, source: str, trees: Mapping[str, nodes.List]) -> None:
        self.source = source
        self._trees = trees
        self._fields = frozenset(name for tree in trees.values() for name in analysis.names(tree))

    def render(self, data: Mapping[str, Any], *, stop_at: str = "", budget: Budget | None = None) -> str:
        """Render with `data` as the cursor; see `values` for the types it may hold.

        With `stop_at` the text ends behind the first action that prints this field, as prompts end at `{{ .Response }}`.
        Renderings that share a budget share its steps. Raises TemplateError with Go's text and position, or when the work or
        the text grows beyond bounds.
        """
        root = self._trees[""]
        if stop_at:
            root, _ = analysis.cut_after(root, stop_at)
        return Evaluator(self.source, self._trees, budget or Budget()).run(root, data)

    def fields(self) -> frozenset[str]:
        """The names of all fields that the template mentions anywhere: `Messages`, `Prompt`, `Role`."""
        return self._fields

    def uses(self, name: str) -> bool:
        """Whether the template mentions the field."""
        return name in self._fields


def parse(text: str) -> Template:
    """Parse a template; raises TemplateError with Go's text and line."""
    return Template(text, parse_trees(text))


def thinking_tags(template: Template) -> tuple[str, str] | None:
    """The tags that the template puts around a message's thinking, as `("<think>", "</think>")`; None when it shows none."""
    return next(filter(None, map(analysis.thinking_tags, template._trees.values())), None)
