"""Which manifest a name stands for, whatever case its folders are spelt in, in the first of several stores that has it.

Rules (LIB-01, LIB-13), the same for every route:

1. names compare without case; of several files of one store the newest counts, of equally new ones the first in order;
2. a store counts before those after it;
3. what is written goes to the first store: over the file that counts there, else into folders that exist as they are spelt.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from serow.errors import InvalidModelName
from serow.store.blobs import disk_errors
from serow.store.manifest import MANIFEST_LIMIT
from serow.store.name import Name
from serow.system.folders import files_below

_SHALLOWEST, _DEEPEST = 4, 12  # levels of folders below `manifests/`: host, up to nine namespaces, model, tag
_SETTLED = 2_000_000_000  # nanoseconds after which a changed folder has a later time for sure, also on FAT
_REMEMBERED = 16_384  # folders
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Index:
    """The manifests of stores. Methods block, microseconds where nothing has changed; raise StoreError for the first store."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.first = roots[0] / "manifests"
        self._folders = tuple(str(root / "manifests") for root in roots)
        self._spellings: dict[str, tuple[int, dict[str, list[str]]]] = {}  # names in a folder by lower case, and its time

    def look_up(self, name: Name) -> str | None:
        """The manifest that counts; None when there is none."""
        return next((found[0] for folder in self._folders if (found := self._in(folder, name))), None)

    def find(self, name: Name) -> Path:
        """The manifest that counts; where it would be written when there is none."""
        found = self.look_up(name)
        return self._new(name) if found is None else Path(found)

    def own(self, name: Name) -> list[Path]:
        """Every manifest of the name in the first store, the one that counts first."""
        return [Path(path) for path in self._in(self._folders[0], name)]

    def target(self, name: Name) -> Path:
        """Where the manifest of a name is written."""
        own = self.own(name)
        return own[0] if own else self._new(name)

    def files(self) -> Iterator[str]:
        """The manifest that counts of every name, readable or not."""
        seen: set[str] = set()
        for folder in self._folders:
            found: dict[str, list[str]] = {}
            for path in _files(folder):
                if (key := _plain(path[len(folder) :])) not in seen:
                    found.setdefault(key, []).append(path)
            seen |= found.keys()
            yield from (paths[0] if len(paths) == 1 else _newest(paths)[0] for paths in found.values())

    def all(self) -> Iterator[Path]:
        """Every manifest of every store, also those that don't count."""
        return (Path(path) for folder in self._folders for path in _files(folder))

    def name(self, path: str | Path) -> Name:
        """The name of a manifest; raises InvalidModelName."""
        for folder in self._folders:
            with suppress(ValueError):
                return Name.of_path(PurePath(path).relative_to(folder))
        raise InvalidModelName

    def shown(self, path: str | Path) -> str:
        """A manifest for people: within the first store, or the whole path."""
        whole = PurePath(path)
        return str(whole.relative_to(self.first)) if whole.is_relative_to(self.first) else str(whole)

    def is_own(self, path: Path) -> bool:
        """Whether a manifest is one of the first store."""
        return path.is_relative_to(self.first)

    def read(self, path: str | Path) -> bytes | None:
        """The bytes of a manifest, at most one above the limit; None when it is not there."""
        with disk_errors(), suppress(*_ABSENT), open(path, "rb") as file:  # noqa: PTH123
            return file.read(MANIFEST_LIMIT + 1)
        return None

    def remove(self, path: Path) -> None:
        """Remove a manifest, and folders that are empty then."""
        with disk_errors():
            path.unlink(missing_ok=True)
            folder = path.parent
            while folder != self.first and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent

    def _in(self, folder: str, name: Name) -> list[str]:
        """Every manifest of the name in a store, the one that counts first."""
        paths = [folder]
        for part in name.folders:
            paths = [os.path.join(path, each) for path in paths for each in self._spelt(path, part)]  # noqa: PTH118
        return paths if len(paths) == 1 and os.path.isfile(paths[0]) else _newest(paths)  # noqa: PTH113

    def _new(self, name: Name) -> Path:
        """Where the manifest of a new name goes: into folders that exist, of several the one spelt as asked, or the first."""
        path = self.first
        for part in name.folders:
            spelt = self._spelt(str(path), part)
            path = path / (part if part in spelt or not spelt else min(spelt))
        return path

    def _spelt(self, folder: str, part: str) -> Sequence[str]:
        """How a folder spells a name, in any order."""
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - in microseconds
            known = self._spellings.get(folder)
            if known is None or known[0] != changed:
                known = changed, _spellings(os.listdir(folder))  # noqa: PTH208
                self._keep(folder, known)
        except _ABSENT:
            return ()
        except OSError:
            if not folder.startswith(self._folders[0]):
                return ()  # a further store that can't be read
            with disk_errors():
                raise
        return known[1].get(_plain(part), ())

    def _keep(self, folder: str, known: tuple[int, dict[str, list[str]]]) -> None:
        """Remember a folder, unless it may change once more at the same time."""
        self._spellings.pop(folder, None)
        if time.time_ns() - known[0] > _SETTLED:
            if len(self._spellings) >= _REMEMBERED:
                self._spellings.clear()
            self._spellings[folder] = known


def _plain(name: str) -> str:
    """What names that are the same have in common; `%3A` is how Windows has to write a colon."""
    return name.lower().replace("%3a", ":")


def _spellings(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_plain(name), []).append(name)
    return found


def _newest(paths: Sequence[str]) -> list[str]:
    """Those that are files, the newest first."""
    found = []
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116
            if stat.S_ISREG(status.st_mode):
                found.append((-status.st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def _files(folder: str) -> Iterator[str]:
    """The files from the fourth level of folders on; what can't be read is left out."""
    found = files_below(folder, _DEEPEST, leave_out=(OSError,))
    return (path for level, path in found if level >= _SHALLOWEST)
