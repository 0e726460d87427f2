"""API keys: who may ask, and for what.

A key is 256 random bits, so one SHA-256 is enough to keep it by: slow hashes guard words that people choose, since those can be
guessed; here nobody can, and a slow hash would cost every request its time. The file holds hashes, names and scopes. Keys in
SEROW_API_KEYS come from whoever runs the server and may do everything.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from serow.errors import RequestError, StoreError

PREFIX = "serow_"  # so that people and secret scanners know one when they see it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Scope(StrEnum):
    """What a key is for."""

    INFER = "infer"  # everything that leaves the models as they are: generate, tags, show, ps
    MANAGE = "manage"  # create, copy, delete, pull, upload


class Key(msgspec.Struct, frozen=True):
    """A key as it is kept. `sha256` in hexadecimal, `created_at` in RFC 3339."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...] = tuple(Scope)
    created_at: str = ""


def digest(secret: str) -> str:
    """The hash that a key is kept by."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class KeyFile:
    """The file of `serow key`: only its owner may read it, and it is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Key, ...]:
        """Its keys, none when there is no file. Raises StoreError when it can't be read, or others wrote it or may do so."""
        try:
            with self.path.open("rb") as file:
                status, data = os.fstat(file.fileno()), file.read()
            directory = self.path.resolve().parent
            place = directory.stat()
        except FileNotFoundError:
            return ()
        except OSError:
            raise StoreError("the key file can't be read") from None
        if not _is_ours(status):
            raise StoreError("the key file belongs to another user", hint=f"chown {_user()} {self.path}, if its keys are right")
        if _is_open(status):
            raise StoreError("the key file may be written by others", hint=f"chmod 600 {self.path}")
        if not _is_ours(place) or (_is_open(place) and not place.st_mode & stat.S_ISVTX):
            hint = f"chmod go-w {directory}, or keep the keys elsewhere: SEROW_KEY_FILE"
            raise StoreError("the key file may be replaced by others: its directory is not this user's alone", hint=hint)
        try:
            return msgspec.json.decode(data, type=tuple[Key, ...])
        except msgspec.MsgspecError:
            raise StoreError("the key file is broken", hint="restore it, or delete it and make new keys") from None

    def create(self, name: str, scopes: tuple[Scope, ...]) -> str:
        """Make a key and return it: it can't be had again. Raises RequestError for a name that won't do, StoreError."""
        if not _NAME.fullmatch(name):
            raise RequestError(f'"{name}" is no name for a key', hint="letters, digits and . _ @ -, up to 64")
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._edit() as keys:
            if any(key.name == name for key in keys):
                raise RequestError(f'there is a key "{name}"', hint=f"serow key revoke {name}")
            keys.append(Key(name, digest(secret), scopes, datetime.now(UTC).isoformat(timespec="seconds")))
        return secret

    def revoke(self, name: str) -> int:
        """Take a key out and return how many are left. Raises RequestError when there is none of that name, StoreError."""
        with self._edit() as keys:
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise RequestError(f'there is no key "{name}"', hint="see what is there: serow key list")
            keys[:] = left
        return len(left)

    @contextmanager
    def _edit(self) -> Iterator[list[Key]]:
        """Its keys, to be changed in place. The new file is the lock too: it is made anew, or somebody else is at it."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise StoreError("another command is changing the keys", hint=f"if there is none, delete {new}") from None
        except OSError:
            raise StoreError("the key file can't be written", hint=f"see who may write in {new.parent}") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                keys = list(self.read())
                yield keys
                file.write(msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError:
            raise StoreError("the key file can't be written", hint="is the disk full?") from None
        finally:
            new.unlink(missing_ok=True)


def _is_ours(status: os.stat_result) -> bool:
    """Whether it belongs to this user, or to root, who needs no key."""
    return os.name != "posix" or status.st_uid in (os.geteuid(), 0)


def _is_open(status: os.stat_result) -> bool:
    """Whether others may write it."""
    return os.name == "posix" and bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _user() -> int:
    return os.geteuid() if os.name == "posix" else 0


class Keyring:
    """The keys that a running server knows; a change of the file holds from the next request on."""

    def __init__(self, api_keys: tuple[str, ...], file: KeyFile) -> None:
        self._given = tuple(Key(f"SEROW_API_KEYS #{number}", digest(key)) for number, key in enumerate(api_keys, 1))
        self._file = file
        self._stamp: tuple[int, ...] | None = None
        self._kept: tuple[Key, ...] = ()

    def find(self, secret: str) -> Key | None:
        """The key that `secret` is. Every key is compared, in constant time."""
        asked, found = digest(secret), None
        for key in (*self._given, *self._read()):
            if hmac.compare_digest(key.sha256, asked):
                found = key
        return found

    @property
    def is_set(self) -> bool:
        """Whether keys are asked for: some are given, or there is a key file, even one whose last key was revoked."""
        self._read()
        return bool(self._given) or self._stamp is not None

    def _read(self) -> tuple[Key, ...]:
        try:
            status = self._file.path.stat()
        except FileNotFoundError:
            self._stamp, self._kept = None, ()
            return ()
        except OSError:
            raise StoreError("the key file can't be read") from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid)
        if stamp != self._stamp:
            self._kept = self._file.read()
            self._stamp = stamp
        return self._kept
