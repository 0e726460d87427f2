"""What a template's tree tells about the template without running it."""

from collections.abc import Iterator
from dataclasses import replace

from serow.gotemplate import nodes


def names(tree: nodes.List) -> Iterator[str]:
    """The names in all field chains of a tree, of variables too: `Messages`, `Role`, `System`."""
    for node in nodes.descend(tree):
        if isinstance(node, nodes.Field | nodes.Variable | nodes.Chain):
            yield from node.names


def cut_after(tree: nodes.List, name: str) -> tuple[nodes.List, bool]:
    """The tree up to the first action that prints the field `name`, and whether there is one.

    Ollama cuts so behind `{{ .Response }}`. What follows in the source is gone, whichever branch runs; only the branches of one
    `if` are cut each by itself. Conditions do not count.
    """
    kept: list[nodes.Statement] = []
    for node in tree.nodes:
        is_cut = False
        if isinstance(node, nodes.Action):
            is_cut = any(isinstance(part, nodes.Field) and name in part.names for part in nodes.descend(node))
        elif isinstance(node, nodes.Branch):
            node, is_cut = _cut_branch(node, name)
        kept.append(node)
        if is_cut:
            return replace(tree, nodes=tuple(kept)), True
    return tree, False


def _cut_branch(node: nodes.If | nodes.With | nodes.Range, name: str) -> tuple[nodes.If | nodes.With | nodes.Range, bool]:
    body, is_cut = cut_after(node.body, name)
    if node.otherwise is None:
        return replace(node, body=body), is_cut
    otherwise, is_otherwise_cut = cut_after(node.otherwise, name)
    return replace(node, body=body, otherwise=otherwise), is_cut or is_otherwise_cut


def thinking_tags(tree: nodes.List) -> tuple[str, str] | None:
    """The tags around `{{ .Thinking }}` in a range over Messages, None when the template shows none.

    Ollama takes the texts that surround it whole; of texts of several lines this takes only the nearest line, so that
    `<|im_start|>assistant` before `<think>` is not part of the tag.
    """
    for node in nodes.descend(tree):
        if isinstance(node, nodes.Range) and _mentions(node.pipe, "Messages"):
            for statements in (part for part in nodes.descend(node.body) if isinstance(part, nodes.List)):
                tags = _tags_in(statements)
                if tags is not None:
                    return tags
    return None


def _mentions(node: nodes.Node, name: str) -> bool:
    return any(isinstance(part, nodes.Field | nodes.Variable) and name in part.names for part in nodes.descend(node))


def _tags_in(statements: nodes.List) -> tuple[str, str] | None:
    """The tags when one of the statements prints Thinking between two texts."""
    triples = zip(statements.nodes, statements.nodes[1:], statements.nodes[2:], strict=False)
    for before, node, after in triples:
        if not (isinstance(before, nodes.Text) and isinstance(node, nodes.Action) and isinstance(after, nodes.Text)):
            continue
        opening, closing = before.text.strip(), after.text.strip()
        if opening and closing and _mentions(node, "Thinking"):
            return opening.splitlines()[-1].strip(), closing.splitlines()[0].strip()
    return None
