"""Commands that look after a store: prune, verify."""

from typing import Any

import click

from serow.cli import progress
from serow.cli.completion import completer, model_names
from serow.cli.table import columns
from serow.cli.terminal import say
from serow.system.units import human_bytes


@click.command()
@click.option("--dry-run", is_flag=True, help="Remove nothing: only name it.")
@click.option("--older", metavar="DURATION", default="1h", show_default=True, help="How old something has to be.")
def prune(dry_run: bool, older: str) -> None:
    """Remove what belongs to no model, and name what is broken or there twice."""
    from serow.cli.server import connect

    with connect() as client:
        found = client.prune(dry_run=dry_run, older=older)["found"]
    if found:
        say(columns([("KIND", "WHAT", "SIZE", ""), *(_row(each) for each in found)]))
    freed = sum(
        each["size"] for each in found if each["is_removed"] or (dry_run and each["kind"] in ("unreferenced", "partial"))
    )
    say(f"{human_bytes(freed)} {'would be' if dry_run else 'were'} freed", err=True)


def _row(each: Any) -> tuple[str, str, str, str]:
    return each["kind"], each["what"][:_WIDTH], human_bytes(each["size"]), "removed" if each["is_removed"] else "kept"


_WIDTH = 60  # characters of a name


@click.command()
@click.argument("model", required=False, default="", shell_complete=completer(model_names))
def verify(model: str) -> None:
    """Read the files of a model again, or of all models, and compare them with their digests."""
    from serow.cli.server import connect

    with connect() as client:
        progress.show(client.verify(model))
