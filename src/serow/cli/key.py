"""`serow key`: the keys that a server asks for, in a file beside its models."""

import click

from serow import settings
from serow.cli.completion import completer, key_names
from serow.cli.help import Group
from serow.cli.table import columns
from serow.cli.terminal import say, tell
from serow.keys import KeyFile, Scope


def _file() -> KeyFile:
    return KeyFile(settings.load().key_file)


@click.group(cls=Group)
def key() -> None:
    """Make and revoke the API keys of this machine's server.

    Once there is one, the server asks every client for a key. Clients take it from SEROW_API_KEY, or OLLAMA_API_KEY.
    The server's SEROW_MODELS and SEROW_KEY_FILE say where the keys are kept: set them here as there.
    """


@key.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it is for: infer asks models, manage changes them. Both when none is given.",
)
def create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and print it. It can't be shown again."""
    file = _file()
    secret = file.create(name, tuple(scope for scope in Scope if not scopes or scope in scopes))
    say(secret)
    say(f"kept as a hash in {file.path}; hand it to a client as SEROW_API_KEY or OLLAMA_API_KEY", err=True)


@key.command("list")
def list_keys() -> None:
    """List the keys by name."""
    rows = [(each.name, ", ".join(each.scopes), each.created_at[:10], each.sha256[:12]) for each in _file().read()]
    say(columns([("NAME", "SCOPES", "CREATED", "SHA-256"), *rows], spare=(3, 2)))


@key.command()
@click.argument("name", shell_complete=completer(key_names))
def revoke(name: str) -> None:
    """Take a key back; a running server refuses it from then on."""
    file = _file()
    left = file.revoke(name)
    say(f"revoked '{name}'")
    if not left:
        tell("hint", f"no key is left and the server lets nobody in; delete {file.path} to ask for none")
