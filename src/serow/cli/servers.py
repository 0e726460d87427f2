"""`serow server`: the servers that commands have started in the background."""

from datetime import UTC, datetime

import click

from serow.cli import state
from serow.cli.completion import completer, server_addresses
from serow.cli.help import Group
from serow.cli.table import columns, human_time
from serow.cli.terminal import say
from serow.errors import NotFound


@click.group(cls=Group)
def server() -> None:
    """List and end the servers that run in the background.

    run, pull and create start one where none answers. It ends by itself when it has had no model in memory and no request
    for SEROW_IDLE_TIMEOUT, 30 minutes unless that is set. A server that you start with serow serve is not listed here.
    """


@server.command("list")
def list_servers() -> None:
    """List the servers that run in the background, with their logs."""
    from serow.cli import background

    now = datetime.now(UTC)
    rows = [
        (each.record.address, str(each.record.pid), human_time(each.started_at, now), state.shown(each.log))
        for each in background.running()
    ]
    say(columns([("ADDRESS", "PROCESS", "STARTED", "LOG"), *rows], spare=(3, 2)))


@server.command()
@click.argument("address", required=False, shell_complete=completer(server_addresses))
@click.option("--all", "everyone", is_flag=True, help="End all of them.")
def stop(address: str | None, everyone: bool) -> None:
    """End the server in the background that commands speak to, or the one at ADDRESS.

    Requests in flight may finish within SEROW_GRACE; its models leave memory.
    """
    from serow.cli import background
    from serow.cli.server import url

    wanted = url({"SEROW_HOST": address}) if address else url()
    found = [each for each in background.running() if everyone or each.record.address == wanted]
    if not found and not everyone:
        raise NotFound(f"no server in the background listens on {wanted}", hint="see which there are: serow server list")
    for each in found:
        background.end(each)
        say(f"ended {each.record.address}, process {each.record.pid}")
