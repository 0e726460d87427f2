"""What scripts/build_engine_wheel runs."""

import argparse
import asyncio
import platform
from contextlib import aclosing
from pathlib import Path

import platformdirs

from serow.cli import progress
from serow.cli.terminal import say, tell
from serow.engines.build.sources import RECIPES
from serow.engines.build.wheel import EngineWheel, find_cpus
from serow.engines.home import EngineHome
from serow.errors import SerowError
from serow.registries.package_index import pip_config


def main() -> None:
    """Build it; ends with 1 and an error in words when that fails."""
    parser = argparse.ArgumentParser(description="Build the engine ik as a wheel.")
    parser.add_argument("--machine", default=platform.machine().lower(), help="x86_64 or aarch64; this one by default")
    parser.add_argument("--variant", action="append", default=[], help="a kind of CPU, several times; all by default")
    parser.add_argument("--cached", action="store_true", help="only if it is compiled already; else end with 3")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("dist"))
    wanted = parser.parse_args()
    home = EngineHome(platformdirs.user_cache_path("serow") / "engine-wheel" / wanted.machine)
    try:
        wheel = EngineWheel(home, "ik", RECIPES["ik"], wanted.machine, find_cpus(wanted.machine, wanted.variant))
        if wanted.cached and not wheel.is_compiled:
            raise SystemExit(3)
        asyncio.run(_make(wheel, wanted.directory))
        for path in wanted.directory.glob(f"serow_engine_*_{wanted.machine}.whl"):
            say(f"{path} {path.stat().st_size / 1e6:.1f} MB")
    except SerowError as error:
        tell("error", str(error))
        if error.hint:
            tell("hint", error.hint)
        raise SystemExit(1) from None


async def _make(wheel: EngineWheel, directory: Path) -> None:
    with progress.bar(is_bytes=False) as shown:
        async with aclosing(wheel.make(pip_config.load(), directory)) as steps:
            async for step in steps:
                shown.update(*step)


if __name__ == "__main__":
    main()
