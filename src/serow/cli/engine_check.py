"""`serow engine check`: whether models may run on an engine."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import click
from msgspec.structs import astuple

from serow import settings
from serow.cli import progress
from serow.cli.completion import completer, engine_names, model_names
from serow.cli.table import columns
from serow.cli.terminal import Handler, say, tell

if TYPE_CHECKING:
    from serow.engines.check.checks import Check
    from serow.engines.kinds import Engine, FlagSet
    from serow.settings import Settings
    from serow.store.model import Model


@click.command(short_help="Try and measure an engine with models.")
@click.argument("name", shell_complete=completer(engine_names))
@click.argument("models", nargs=-1, shell_complete=completer(model_names), metavar="[MODEL]...")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=10, metavar="N", help="End after so many (10).")
@click.option("-v", "--verbose", is_flag=True, help="Show the last words of engines that fail.")
@click.pass_context
def check(context: click.Context, name: str, models: tuple[str, ...], minutes: float, verbose: bool) -> None:
    """Try an engine with models of this machine, all language models when none is named.

    Each way to start it is tried beside the wheel: the same texts, several requests at once, clients that leave, texts
    beyond the context. What passes is measured, and a server runs the model on the fastest from the next load on. The exit
    status is 1 when a model passed with none. Other work on this machine makes the numbers worth little: a result says when
    there was some.
    """
    import asyncio
    import logging

    from serow.engines.home import EngineHome
    from serow.errors import EngineError

    logging.basicConfig(level=logging.WARNING if verbose else logging.CRITICAL, handlers=[Handler()], format="%(message)s")
    configured = settings.load()
    home = EngineHome(configured.engines)
    home.register()
    engine = home.find(name)
    passed = []
    for model in _find(models, configured):
        try:
            passed.append(asyncio.run(_check(engine, model, configured, minutes * 60)))
        except EngineError as error:  # of the wheel; the other models may be sound
            tell("error", f"{model.name.display_shortest} can't be checked: {error}")
            passed.append(False)
    if not all(passed):
        context.exit(1)


def _find(names: Sequence[str], configured: "Settings") -> "list[Model]":
    """The models of these names; without one all language models, each file once."""
    from serow.engines.check.checks import model_key
    from serow.errors import NotFound
    from serow.store.store import Store

    store = Store(configured.models, further=configured.further_models)
    if names:
        return [store.resolve(name) for name in names]
    found = [model for model in store.list() if "completion" in model.capabilities and not model.projector]
    if not found:
        raise NotFound("there are no language models to check", hint="pull one: serow pull smollm2:135m")
    return list({model_key(model): model for model in reversed(found)}.values())


async def _check(engine: "Engine", model: "Model", configured: "Settings", limit: float) -> bool:
    """Check one model, keep and show the results; whether one has passed. Raises Unfinished when the time suffices for none."""
    from serow.engines.check.check import Unfinished, check
    from serow.engines.check.checks import Checks

    name, kept, results = model.name.display_shortest, Checks(configured.engines), []
    is_whole = True
    with progress.bar(is_bytes=False) as bar:

        def tell(flags: "FlagSet | None", done: int, total: int) -> None:
            bar.update(f"{name}: {_words(flags) if flags else 'the wheel'}", done, total)

        try:
            async with aclosing(check(engine, model, configured, tell, limit)) as checked:
                async for result in checked:
                    kept.put([result])
                    results.append(result)
        except Unfinished:
            if not results:
                raise
            is_whole = False
    say(f"{_table(results)}\n{_outcome(model, configured)}")
    _warn(results, limit, is_whole=is_whole)
    return any(result.passed for result in results)


def _warn(results: "Sequence[Check]", limit: float, *, is_whole: bool) -> None:
    """Say what the results are not worth."""
    if not is_whole:
        tell("warning", f"not every way to start it was tried within {limit / 60:g} minutes")
        tell("hint", "what passed is kept; give it longer with --minutes, or a quieter machine")
    disturbance = max(result.disturbance for result in results)
    if any(result.is_disturbed for result in results):
        tell("warning", f"other processes took up to {disturbance:.0%} of the CPU: the speeds are worth little")
        tell("hint", "check again when there is less to do")


def _words(flags: "FlagSet") -> str:
    """A set of flags as people say it: "8 slots, flash attention"."""
    slots = f"{flags.num_parallel} slot{'s' * (flags.num_parallel != 1)}"
    attention = {None: "", True: ", flash attention", False: ", no flash attention"}[flags.flash_attention]
    threads = f", {flags.num_thread} thread{'s' * (flags.num_thread != 1)}" if flags.num_thread else ""
    guesses = ", drafts" * flags.drafts + ", the smaller model" * flags.draft_model
    cache = f", {flags.cache_type} cache" * (flags.cache_type != "f16")
    return slots + attention + cache + guesses + ", repacked" * flags.repack + threads


def _table(results: "Sequence[Check]") -> str:
    """How each set of flags did; speeds as multiples of the wheel's."""
    rows = [(_words(each.flags), "passed" if each.passed else "failed", *_multiples(each)) for each in results]
    reasons = [f"{_words(each.flags)} failed: {each.reason}" for each in results if each.reason]
    return "\n".join([columns([("FLAGS", "RESULT", "PROMPT", "DECODE", "REPEATS", "8 STREAMS"), *rows]), *reasons])


def _multiples(result: "Check") -> list[str]:
    if not (result.speeds and result.wheel):
        return [""] * 4
    return [f"{ours / wheel:.2f}" for ours, wheel in zip(astuple(result.speeds), astuple(result.wheel), strict=True)]


def _outcome(model: "Model", configured: "Settings") -> str:
    """What a server makes of it."""
    from serow.engines.kinds import WHEEL
    from serow.engines.selection import Selection

    choice = Selection(configured).choose(model, frozenset())
    name = model.name.display_shortest
    if choice.engine == WHEEL:
        return f"{name} runs on the wheel"
    return f"{name} runs on {choice.engine.name}, {_words(choice.flags)}: used from the next load on"
