"""Where pip looks for packages on this machine: its environment variables over its configuration files.

Source: pip's documentation, "Configuration" (locations, precedence, names of variables). Of each option the last value
wins as a whole. Read here: index-url, extra-index-url, find-links, no-index, cert, proxy.
"""

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"
_SECTIONS = ("global", "install", "download")  # the later over the earlier
_NO = {"", "0", "n", "no", "f", "false", "off"}


@dataclass(frozen=True)
class PipConfig:
    """What matters to fetch a file as pip would: simple indexes, directories of files, and how to reach them."""

    indexes: tuple[str, ...] = (DEFAULT_INDEX,)
    find_links: tuple[str, ...] = ()
    cert: str = ""  # a file of authorities instead of the system's
    proxy: str = ""


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's configuration files, the weakest first."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return
    home = Path.home()
    if sys.platform == "win32":
        name = "pip.ini"
        yield Path(environ.get("ProgramData", "C:\\ProgramData")) / "pip" / name
        user = Path(environ.get("APPDATA", home)) / "pip" / name
    else:
        name = "pip.conf"
        for directory in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
            yield Path(directory) / "pip" / name
        yield Path("/Library/Application Support/pip" if sys.platform == "darwin" else "/etc", name)
        user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / name
    yield home / ("pip" if sys.platform == "win32" else ".pip") / name
    if sys.platform == "darwin":
        yield home / "Library" / "Application Support" / "pip" / name
    yield user
    yield Path(sys.prefix) / name
    if chosen := environ.get("PIP_CONFIG_FILE"):
        yield Path(chosen)


def _read_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}  # as if it were not there: pip itself says what is wrong with it
    return {
        key.replace("_", "-"): value
        for section in _SECTIONS
        if parser.has_section(section)
        for key, value in parser.items(section)
    }


def _read_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {key[4:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("PIP_") and value}


def load(environ: Mapping[str, str] = os.environ) -> PipConfig:
    """Read pip's settings. A file that can't be read counts as absent."""
    options: dict[str, str] = {}
    for path in _files(environ):
        options.update(_read_file(path))
    options.update(_read_environ(environ))
    indexes = (options.get("index-url", DEFAULT_INDEX), *options.get("extra-index-url", "").split())
    if options.get("no-index", "").lower() not in _NO:
        indexes = ()
    return PipConfig(
        indexes=tuple(url.strip().rstrip("/") for url in indexes),
        find_links=tuple(options.get("find-links", "").split()),
        cert=options.get("cert", ""),
        proxy=options.get("proxy", ""),
    )
