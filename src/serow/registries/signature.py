"""Who we are to Ollama's registry: an ed25519 key in OpenSSH's format, and the signature of a token's URL (LIB-16).

The key is `~/.ollama/id_ed25519`, the peer's own; it is made when a signature is first needed.
"""

import base64
import binascii
import hashlib
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serow.errors import RegistryRefused
from serow.registries import ed25519

_MAGIC = b"openssh-key-v1\x00"
_KIND = b"ssh-ed25519"
_LIMIT = 16 << 10  # bytes of a key file
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_NOTHING = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()  # the body of a GET, as it is signed


@dataclass(frozen=True)
class SigningKey:
    """A key: its seed, never shown, and its public half."""

    seed: bytes
    public: bytes

    def __repr__(self) -> str:
        return "SigningKey(…)"

    @property
    def blob(self) -> str:
        """The public key as ssh writes it, in base64."""
        return base64.b64encode(_text(_KIND) + _text(self.public)).decode()

    @property
    def line(self) -> str:
        """The line of `id_ed25519.pub`."""
        return f"{_KIND.decode()} {self.blob}"

    def authorization(self, url: str) -> str:
        """The Authorization header of a GET of `url`."""
        signed = ed25519.sign(self.seed, f"GET,{url},{_NOTHING}".encode())
        return f"{self.blob}:{base64.b64encode(signed).decode()}"


def default_path() -> Path:
    """Where the peer keeps its key."""
    return Path.home() / ".ollama" / "id_ed25519"


def load(path: Path) -> SigningKey:
    """Read the key, or make one; raises RegistryRefused when there is one that can't be used."""
    try:
        with path.open("rb") as file:
            return _decode(file.read(_LIMIT).decode("ascii"))
    except FileNotFoundError:
        return _make(path)
    except OSError as error:
        raise RegistryRefused(f"the key of this machine can't be read: {os.strerror(error.errno or 0).lower()}") from error
    except (ValueError, struct.error, binascii.Error) as error:
        reason = str(error) if isinstance(error, _KeyFault) else "it is no ed25519 key in OpenSSH's format"
        raise RegistryRefused(f"the key of this machine can't be used: {reason}", hint=f"see {path}") from None


class _KeyFault(ValueError):
    """What is wrong with a key, in words."""


def _make(path: Path) -> SigningKey:
    seed = secrets.token_bytes(32)
    key = SigningKey(seed, ed25519.public_key(seed))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(_encode(key))
        with suppress(FileExistsError), path.with_name(path.name + ".pub").open("x") as file:
            file.write(key.line + "\n")
    except FileExistsError:  # another process was faster
        return load(path)
    except OSError as error:
        raise RegistryRefused(f"no key can be made for this machine: {os.strerror(error.errno or 0).lower()}") from error
    return key


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _encode(key: SigningKey) -> str:
    public = _text(_KIND) + _text(key.public)
    check = secrets.token_bytes(4)
    private = check * 2 + public + _text(key.seed + key.public) + _text(b"")
    private += bytes(range(1, 1 + -len(private) % 8))
    head = _MAGIC + _text(b"none") * 2 + _text(b"") + struct.pack(">I", 1)
    text = base64.b64encode(head + _text(public) + _text(private)).decode()
    return "\n".join((_BEGIN, *(text[at : at + 70] for at in range(0, len(text), 70)), _END, ""))


def _decode(text: str) -> SigningKey:
    body = text.strip()
    if not body.startswith(_BEGIN) or not body.endswith(_END):
        raise ValueError
    data = base64.b64decode("".join(body.removeprefix(_BEGIN).removesuffix(_END).split()), validate=True)
    if not data.startswith(_MAGIC):
        raise ValueError
    parts = _parts(data[len(_MAGIC) :])
    cipher, _, _ = next(parts), next(parts), next(parts)
    if cipher != b"none":
        raise _KeyFault("it has a passphrase, and nobody is there to be asked for it")
    at = len(_MAGIC) + 3 * 4 + len(cipher) + len(b"none")
    at += 4  # the number of keys
    inner = _parts(data[at:])
    next(inner)
    private = _parts(next(inner)[8:])
    kind, public, secret = next(private), next(private), next(private)
    if kind != _KIND or len(public) != 32 or len(secret) != 64 or secret[32:] != public:
        raise ValueError
    return SigningKey(secret[:32], public)


def _parts(data: bytes) -> Iterator[bytes]:
    """Strings with their lengths before them; raises ValueError behind the last whole one."""
    at = 0
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        if at + 4 + length > len(data):
            raise ValueError
        yield data[at + 4 : at + 4 + length]
        at += 4 + length
