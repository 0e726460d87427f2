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
    from serow.engines.build.build import Plan, Progress, Workshop
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
    from serow.engines import wheel_cpu
    from serow.engines.kinds import KINDS
    from serow.engines.packaged import sentences

    found = home().register()
    rows = [_row(name) for name in KINDS]
    rows += _vllm_rows()
    say(columns([("NAME", "BUILD", "SOURCE", "BACKENDS", "BUILT"), *rows], spare=(3, 4, 1)))
    say(f"\nin use: {_in_use()}")
    for sentence in sentences(found):
        tell("note", sentence)
    if reason := wheel_cpu.refusal():
        tell("note", f"{reason}; {wheel_cpu.HINT}")


def _row(name: str) -> tuple[str, ...]:
    from serow.engines.kinds import WHEEL

    if name == WHEEL.name:
        return name, version("xllamacpp"), "xllamacpp", "", ""
    build, found = home().build_of(name), home().packaged_of(name)
    if build is None and found and found.is_sound:
        return name, found.sha256[:12], f"{found.package}, {found.variant}", "cpu", _when(found.built_at)
    if build is None and home().is_locked(name):
        return name, "being built", f"see {home().said_by(name)}" * home().said_by(name).exists(), "", ""
    if build is None:
        return name, "not built", f"serow engine build {name}", "", ""
    return name, build.sha256[:12], build.source, ", ".join(("cpu", *build.backends)), _when(build.built_at)


def _vllm_rows() -> list[tuple[str, ...]]:
    """A vLLM that the settings name, for models of safetensors."""
    from serow.engines.vllm.environment import find
    from serow.errors import RequestError

    configured = settings.load()
    try:
        found = find(configured)
    except RequestError as error:
        return [("vllm", "not found", str(error), "", "")] if configured.vllm else []
    return [("vllm", found.version or "unknown", str(found.python), "cpu" if found.is_for_cpu else "gpu", "")]


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
@click.option("--background", is_flag=True, help="Return at once; build where nothing else wants the cores.")
@click.option("--lowest", is_flag=True, hidden=True, help="Come last: of a build in the background.")
def build(name: str, cpu_only: bool, background: bool, lowest: bool) -> None:
    """Build an engine for this machine: llama.cpp or ik.

    Its sources come from the package index, and so does a compiler where none is here. It takes some minutes; a build
    that was ended goes on where it was. The engine that is there stays until the new one is ready. In the background it
    takes what others leave; a server that is started after a stop goes on with it.
    """
    from serow.engines.build.build import Plan
    from serow.engines.build.sources import find
    from serow.engines.build.toolchain import find_toolchain
    from serow.errors import SerowError
    from serow.system.limits import come_last

    if background:
        _build_behind(name)
        return
    if lowest:
        come_last()
    try:
        _build_here(Plan(name, find(name), find_toolchain(cpu_only=cpu_only)))
    except SerowError:
        if lowest and not home().is_locked(name):  # it would fail again
            home().forget_wish(name)
        raise
    home().forget_wish(name)
    say(f"built {name} {home().find(name).build}")
    tell("hint", f"serow engine check {name} MODEL lets models use it")


def _build_behind(name: str) -> None:
    from serow.engines.build.sources import find
    from serow.engines.upkeep import start_build
    from serow.errors import RequestError

    find(name)
    if home().is_locked(name):
        raise RequestError(f"the engine {name} is being built", hint="see: serow engine list")
    start_build(name, home())
    say(f"building {name} in the background, where nothing else wants the cores")
    tell("hint", f"see how it goes: serow engine list, and {home().said_by(name)}")


def _build_here(plan: "Plan") -> None:
    import asyncio

    from serow.engines.build.build import Workshop

    say(f"building {plan.name} from {plan.recipe.sdist.filename}", err=True)
    say(columns(plan.toolchain.rows, indent="  "), err=True)
    try:
        asyncio.run(_build(Workshop(home(), plan)))
    except KeyboardInterrupt:
        say(err=True)
        tell("hint", f"serow engine build {plan.name} goes on where this one ended")
        raise


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
    home().register()
    home().use("" if name == _AUTOMATIC else name)
    say(f"in use: {_in_use()}")


@engine.command()
@click.argument("name", shell_complete=completer(engine_names))
def rm(name: str) -> None:
    """Remove an engine, and what a build of it has left."""
    home().remove(name)
    say(f"removed '{name}'")


engine.add_command(check)
