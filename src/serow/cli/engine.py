"""`serow engine`: the engines of this machine, and those that can be built for it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from serow import settings
from serow.cli import progress
from serow.cli.completion import completer, engine_names
from serow.cli.engine_check import check
from serow.cli.help import Group
from serow.cli.table import columns, human_time
from serow.cli.terminal import say, tell

if TYPE_CHECKING:
    from serow.engines.build.build import Progress, Workshop
    from serow.engines.home import EngineHome

_AUTOMATIC = "auto"
_ENGINES = (
    ("wheel", "llama.cpp from a wheel, made for every CPU; always there"),
    ("llama.cpp", "llama.cpp, built for this machine"),
    ("ik", "ik_llama.cpp, built for this machine: the fastest on many CPUs"),
)


def home() -> "EngineHome":
    """The directory of the engines, as the settings name it."""
    from serow.engines.home import EngineHome

    return EngineHome(settings.load().engines)


@click.group(cls=Group, sections={"Engines": _ENGINES})
def engine() -> None:
    """Build, choose and remove the engines that run models on this machine.

    A model runs on the fastest engine that was checked with it, by default on the wheel. SEROW_ENGINE forces one
    for all models, SEROW_ENGINES is the directory that they lie in: set them here as for the server.
    """


@engine.command("list")
def list_engines() -> None:
    """List the engines, and say which one is in use."""
    from serow.engines.kinds import KINDS

    rows = [_row(name) for name in KINDS]
    say(columns([("NAME", "BUILD", "SOURCE", "BACKENDS", "BUILT"), *rows], spare=(3, 4, 1)))
    say(f"\nin use: {_in_use()}")


def _row(name: str) -> tuple[str, ...]:
    from serow.engines.kinds import WHEEL

    if name == WHEEL.name:
        return name, version("xllamacpp"), "xllamacpp", "", ""
    build = home().build_of(name)
    if build is None:
        return name, "not built", f"serow engine build {name}", "", ""
    return name, build.sha256[:12], build.source, ", ".join(("cpu", *build.backends)), _when(build.built_at)


def _when(moment: str) -> str:
    try:
        return human_time(datetime.fromisoformat(moment).astimezone(UTC), datetime.now(UTC))
    except ValueError:
        return moment  # somebody has edited the record


def _in_use() -> str:
    from serow.engines.home import forced

    configured = settings.load()
    chosen = forced(configured)
    if chosen and configured.llama_server:
        return f"{configured.llama_server} as {chosen.name}, as SEROW_LLAMA_SERVER says"
    if chosen:
        return f"{chosen.name}, as SEROW_ENGINE says"
    used = home().used
    return f"{used}, for the models that it was checked with" if used else "for each model the fastest that was checked with it"


@engine.command()
@click.argument("name", shell_complete=completer(engine_names))
@click.option("--cpu", "cpu_only", is_flag=True, help="For the CPU alone, though there is a GPU.")
def build(name: str, cpu_only: bool) -> None:
    """Build an engine for this machine: llama.cpp or ik.

    Its sources come from the package index. It needs a C++ compiler, and takes some minutes; a build that was ended
    goes on where it was. The engine that is there stays until the new one is ready.
    """
    import asyncio

    from serow.engines.build.build import Plan, Workshop
    from serow.engines.build.sources import find
    from serow.engines.build.toolchain import find_toolchain

    plan = Plan(name, find(name), find_toolchain(cpu_only=cpu_only))
    say(f"building {name} from {plan.recipe.sdist.filename}", err=True)
    say(columns(plan.toolchain.rows, indent="  "), err=True)
    try:
        asyncio.run(_build(Workshop(home(), plan)))
    except KeyboardInterrupt:
        say(err=True)
        tell("hint", f"serow engine build {name} goes on where this one ended")
        raise
    say(f"built {name} {home().find(name).build}")
    tell("hint", f"serow engine check {name} MODEL lets models use it")


async def _build(workshop: "Workshop") -> None:
    from serow.registries.package_index import pip_config

    with workshop.lock():
        await _show(workshop.fetch(pip_config.load()), is_bytes=True)
        await _show(workshop.make(), is_bytes=False)


async def _show(records: "AsyncGenerator[Progress, None]", *, is_bytes: bool) -> None:
    with progress.bar(is_bytes=is_bytes) as shown:
        async with aclosing(records):
            async for record in records:
                shown.update(*record)


@engine.command()
@click.argument("name", metavar=f"NAME|{_AUTOMATIC}", shell_complete=completer(lambda: (*engine_names(), _AUTOMATIC)))
def use(name: str) -> None:
    """Choose the engine of the models that it was checked with; "auto" is the fastest of each model."""
    home().use("" if name == _AUTOMATIC else name)
    say(f"in use: {_in_use()}")


@engine.command()
@click.argument("name", shell_complete=completer(engine_names))
def rm(name: str) -> None:
    """Remove an engine, and what a build of it has left."""
    home().remove(name)
    say(f"removed '{name}'")


engine.add_command(check)
