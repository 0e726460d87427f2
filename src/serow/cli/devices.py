"""`serow devices`: what there is to run on, and what runs there."""

import json
from typing import Any

import click

from serow.cli.table import columns
from serow.cli.terminal import say, tell
from serow.devices.device import used_by
from serow.system.units import human_bytes


@click.command(short_help="List the GPUs, and what runs on them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def devices(as_json: bool) -> None:
    """List the GPUs of the server's machine: their memory, which engine calls them what, which models are there.

    A card that the system has and no engine uses is listed with the reason.
    """
    from serow.cli.server import connect

    with connect() as client:
        body = client.devices()
    if as_json:
        say(json.dumps(body))
        return
    for warning in body.get("warnings", ()):
        tell("warning", warning)
    if not body["devices"]:
        found = "is known of" if body.get("warnings") else "was found"
        say(f"no GPU {found}: models run on the CPU")
        return
    say(columns([("NAME", "KIND", "FREE", "TOTAL", "ENGINES", "MODELS"), *map(_row, body["devices"])], spare=(1, 3)))


def _row(device: Any) -> tuple[str, ...]:
    models = ", ".join(f"{each['name']} {human_bytes(each['size'])}" for each in device["models"])
    sizes = human_bytes(device["free"]), human_bytes(device["total"])
    return device["name"], device["kind"], *sizes, used_by(device["engines"], device["reason"]), models
