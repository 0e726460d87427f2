"""`serow show`: what a model is."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from serow.cli.models import MODEL
from serow.cli.table import columns
from serow.cli.terminal import data, say, tell
from serow.errors import SerowError

_NO_TEMPLATE = "{{ .Prompt }}"
LEFT_OUT = "\n# left out "  # what stands in a Modelfile for a text that can't be written there
_HEAD = 2  # lines of a system message or a license
_LIST_WIDTH = 10  # characters of a list in a column

Rows = list[tuple[str, ...]]


@click.command()
@MODEL
@click.option("--license", is_flag=True, help="Show the license.")
@click.option("--modelfile", is_flag=True, help="Show the Modelfile.")
@click.option("--parameters", is_flag=True, help="Show the parameters.")
@click.option("--template", is_flag=True, help="Show the prompt template.")
@click.option("--system", is_flag=True, help="Show the system message.")
@click.option("-v", "--verbose", is_flag=True, help="Show all metadata and tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show(model: str, verbose: bool, as_json: bool, **parts: bool) -> None:
    """Show what a model is, or one part of it."""
    from serow.cli.server import connect

    part, *others = [name for name, is_wanted in parts.items() if is_wanted] or [""]
    if others:
        raise click.UsageError(f"only one of {', '.join(f'--{name}' for name in sorted(parts))} can be given")

    with connect() as client:
        info = client.show_all(model, verbose=verbose)
    if part == "modelfile" and LEFT_OUT in part_of(info, part):
        raise SerowError("a text of the model can't be written in a Modelfile: it holds the quotes that would end it")
    if as_json:
        say(json.dumps(info))
        return
    for warning in info.get("warnings") or ():
        tell("warning", warning)
    data(part_of(info, part)) if part else say(describe(info, verbose=verbose))


def part_of(info: dict[str, Any], part: str) -> str:
    """One part of /api/show's answer, "" for none.

    The Modelfile of a model whose prompt is made by the Jinja template in its weights says `TEMPLATE {{ .Prompt }}` on the
    wire, as Ollama's does; a model that is built of it would chat no more, so here the line is left out.
    """
    text = str(info.get(part) or "")
    is_rendered_by_weights = part == "modelfile" and info.get("template") != _NO_TEMPLATE
    return text.replace(f"\nTEMPLATE {_NO_TEMPLATE}\n", "\n", 1) if is_rendered_by_weights else text


def describe(info: dict[str, Any], *, verbose: bool = False) -> str:
    """The sections of /api/show's answer, as Ollama's command line lays them out."""
    return "".join(f"  {title}\n{columns(_even(rows), indent='    ')}\n\n" for title, rows in _sections(info, verbose) if rows)[
        :-1
    ]


def _even(rows: Rows) -> list[Sequence[str]]:
    width = max(len(row) for row in rows)
    return [(*row, *[""] * (width - len(row))) for row in rows]


def _sections(info: dict[str, Any], verbose: bool) -> Iterator[tuple[str, Rows]]:
    metadata = info.get("model_info") or {}
    yield "Model", _model(info, metadata)
    yield "Capabilities", [(capability,) for capability in info.get("capabilities") or ()]
    yield "Projector", _projector(info.get("projector_info") or {})
    yield "Parameters", [tuple(line.split(None, 1)) for line in info.get("parameters", "").splitlines() if line.strip()]
    yield "Picture", _picture(info.get("picture_defaults") or {})
    yield "Drawing", _drawing(info.get("picture_abilities") or {})
    if verbose:
        yield "Metadata", [(key, _value(metadata[key])) for key in sorted(metadata)]
        yield "Tensors", [(tensor["name"], tensor["type"], str(tensor["shape"])) for tensor in info.get("tensors") or ()]
    yield "System", _head(info.get("system", ""))
    yield "License", _head(info.get("license", ""))


def _model(info: dict[str, Any], metadata: dict[str, Any]) -> Rows:
    details = info.get("details") or {}
    architecture = metadata.get("general.architecture") or details.get("family", "")
    rows = (
        ("address", info.get("remote_host")),
        ("name there", info.get("remote_model")),
        ("architecture", architecture),
        ("parameters", details.get("parameter_size")),
        ("context length", metadata.get(f"{architecture}.context_length")),
        ("embedding length", metadata.get(f"{architecture}.embedding_length")),
        ("quantization", details.get("quantization_level")),
        ("requires", info.get("requires")),
        ("store", info.get("store")),
        ("files", "linked" if info.get("linked") else ""),
    )
    return [(name, str(value)) for name, value in rows if value]


def _projector(metadata: dict[str, Any]) -> Rows:
    architecture = metadata.get("general.architecture", "")
    rows = (
        ("architecture", architecture),
        ("parameters", metadata.get("general.parameter_count")),
        ("embedding length", metadata.get(f"{architecture}.vision.embedding_length")),
        ("dimensions", metadata.get(f"{architecture}.vision.projection_dim")),
    )
    return [(name, str(value)) for name, value in rows if value]


def _picture(defaults: dict[str, dict[str, Any]]) -> Rows:
    """What is drawn with when nobody says it, and who says so then."""
    return [
        (name, "" if each["value"] is None else _value(each["value"]), f"({each['source']})") for name, each in defaults.items()
    ]


def _drawing(can: dict[str, Any]) -> Rows:
    """What can be asked of a model that draws, and what has to be."""
    if not can:
        return []
    most = can.get("most_images", 0)
    images = {"optional": f"up to {most}" if most > 1 else "one, or none", "required": f"1 to {most}" if most > 1 else "one"}
    rows = (
        ("prompt alone", "yes" if can.get("prompt_alone") else "no: it needs a picture"),
        ("images", images.get(str(can.get("images")), "none")),
        ("mask", {"optional": "may be given", "required": "needed"}.get(str(can.get("mask")), "none")),
        *((name.replace("_", " "), "yes" if can.get(name) else "no effect") for name in ("guidance", "negative_prompt")),
        ("schedulers", _names(can.get("schedulers") or ())),
    )
    return [(name, str(value)) for name, value in rows if value]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def _head(text: str) -> Rows:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line,) for line in (*lines[:_HEAD], *["..."] * (len(lines) > _HEAD))]


def _value(value: Any) -> str:
    """One value of the metadata, a list by its beginning."""
    if not isinstance(value, list):
        return str(value).lower() if isinstance(value, bool) else re.sub(r"\s+", " ", str(value))
    shown: list[str] = []
    for item in value:
        if shown and len(", ".join([*shown, str(item)])) > _LIST_WIDTH:
            break
        shown.append(str(item))
    more = len(value) - len(shown)
    return f"[{' '.join(shown)}{f' ...+{more} more' if more else ''}]"
