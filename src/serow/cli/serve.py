"""`serow serve`."""

import errno
import socket
from pathlib import Path

import click

from serow import settings
from serow.errors import SerowError


class _Serve(click.Command):
    """Lists the variables that the server reads below its options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of settings, as it is."""
        with formatter.section("Environment (OLLAMA_… works in place of SEROW_…)"):
            formatter.write_dl([(f"SEROW_{variable.name}", variable.help) for variable in settings.VARIABLES])


@click.command(cls=_Serve)
def serve() -> None:
    """Start the server and stay in front; Ctrl-C ends it."""
    from serow.engines.home import forced
    from serow.server import app

    found = settings.load()
    forced(found)
    _check_address(found.host, found.port)
    _make_store(found.models)
    app.serve(found)


def _check_address(host: str, port: int) -> None:
    """Raise SerowError when nobody can listen there, before anything is set up."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        socket.create_server((str(address[0]), port), family=family).close()
    except OSError as error:
        reason = (error.strerror or "unknown fault").partition(" (")[0].lower()
        is_taken = error.errno == errno.EADDRINUSE
        hint = f"{'does a server run already? see: serow ps; or ' if is_taken else ''}choose another address in SEROW_HOST"
        raise SerowError(f"can't listen on {host}:{port}: {reason}", hint=hint) from error


def _make_store(models: Path) -> None:
    """Raise SerowError when the model store is no directory and can't become one."""
    try:
        models.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "unknown fault").lower()
        raise SerowError(f"can't keep models in {models}: {reason}", hint="choose a directory in SEROW_MODELS") from error
