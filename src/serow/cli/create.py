"""`serow create`: a Modelfile, the files it names, and the model that the server makes of them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serow.cli import help, progress
from serow.cli.models import MODEL
from serow.cli.terminal import tell
from serow.errors import RequestError, SerowError
from serow.settings import expanded

if TYPE_CHECKING:
    from serow.cli.client import Client
    from serow.store.modelfile import Modelfile

_CHUNK = 1 << 20  # bytes
_PROJECTOR = "mmproj"  # in the name of a file beside a model that sees
_PATH_STARTS = ("/", "./", "../", "~", "\\", ".\\", "..\\")
_LINES = (
    ("FROM ./model.gguf", "weights, a folder, or the name of a model; needed"),
    ("PARAMETER temperature 0.2", "an option where a request gives none"),
    ('SYSTEM "Be brief."', "the system message"),
    ("ADAPTER ./lora.gguf", "a LoRA over it"),
)


@click.command(cls=help.Command, sections={"Lines of a Modelfile, as": _LINES})
@MODEL
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), default=Path("Modelfile"), show_default=True, help="The Modelfile."
)
@click.option("-q", "--quantize", metavar="TYPE", help="Quantize to F32, F16, Q8_0, Q4_K_S or Q4_K_M.")
@click.option("--draft-quantize", metavar="TYPE", help="Quantize the DRAFT model.")
@click.option("--merge", is_flag=True, help="Make one file of a model that is split into several.")
@click.option("--copy", is_flag=True, help="Copy files, where links to them would do.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def create(
    model: str, file: Path, quantize: str | None, draft_quantize: str | None, merge: bool, copy: bool, quiet: bool
) -> None:
    """Create a model from a Modelfile.

    Paths in it are relative to it. Two FROM lines make a model that sees: its weights and its projector. FROM names a
    directory that holds a GGUF file, or, for a model that draws, a diffusers pipeline. A model that is split into several
    files is named by one of them. FROM vllm://HOST:PORT/NAME is a model that an engine on another machine has; TOKENIZER
    names the folder of its tokenizer.json.
    """
    from serow.cli.server import connect
    from serow.store.modelfile import parse
    from serow.store.name import Name

    Name.parse(model)  # what the server would refuse when gigabytes are read and sent
    modelfile = parse(_read(file))
    for warning in modelfile.warnings:
        tell("warning", warning)
    address = _address(modelfile)
    sources, names = (_tokenizer(modelfile.tokenizer, file.parent), []) if address else _split(modelfile.sources, file.parent)
    with connect(start=True) as client:
        send = partial(_send, client, may_link=not copy and client.is_local, quiet=quiet)
        body = {
            **modelfile.request(),
            "model": model,
            **address,
            "from": names[0] if names else None,
            "files": {name: send(path) for name, path in sources.items()} or None,
            "adapters": _named(modelfile.adapters, file.parent, send),
            **_draft(modelfile.drafts[-1:], file.parent, send),
            "quantize": quantize,
            "draft_quantize": draft_quantize,
            "merge": merge,
        }
        progress.show(client.create_of({name: value for name, value in body.items() if value}), quiet=quiet)


def _address(modelfile: "Modelfile") -> dict[str, str]:
    """Where the model's engine is, when FROM says that; raises RequestError."""
    from serow.store.engine_address import is_remote, split

    found = [text for text in modelfile.sources if is_remote(text)]
    if not found:
        if modelfile.tokenizer:
            raise RequestError("TOKENIZER belongs to a model at an address", hint="FROM vllm://HOST:PORT/NAME")
        return {}
    if len(modelfile.sources) > 1:
        raise RequestError("a model at an address has one FROM line", hint="several addresses: FROM vllm://a:8000,b:8000/NAME")
    host, name = split(found[0])
    return {"remote_host": host, "remote_model": name}


def _tokenizer(text: str, base: Path) -> dict[str, Path]:
    """The files of TOKENIZER's folder, or of a repository in the Hub's cache; raises RequestError."""
    from serow.registries.caches import snapshot
    from serow.store.remote import FILES, TOKENIZER

    folder = _path(text or ".", base)
    if text and not folder.is_dir() and (cached := snapshot(text)):
        folder = cached
    if not text or not (folder / TOKENIZER).is_file():
        raise RequestError(
            f"no {TOKENIZER} in {folder}" if text else "a model at an address needs TOKENIZER",
            hint="TOKENIZER ./folder names the folder that the engine was started with",
        )
    return {name: folder / name for name in FILES if (folder / name).is_file()}


def _named(texts: Sequence[str], base: Path, send: Callable[[Path], str]) -> dict[str, str]:
    return {path.name: send(path) for path in (_existing(text, base) for text in texts)}


def _draft(texts: Sequence[str], base: Path, send: Callable[[Path], str]) -> dict[str, Any]:
    """What a DRAFT line names: a file that is there, or looks like one, else a model of the server."""
    if any(_path(text, base).exists() or _is_path(text) for text in texts):
        return {"draft_files": _named(texts, base, send)}
    return {"draft": "".join(texts)}


def _is_path(text: str) -> bool:
    return text.startswith(_PATH_STARTS) or text in (".", "..") or (text.lower().endswith(".gguf") and ":" not in text)


def _read(file: Path) -> str:
    from serow.store.modelfile import decode

    try:
        return decode(file.read_bytes())
    except OSError as error:
        raise _unreadable(file, error, "name the Modelfile with -f") from error


def _unreadable(path: Path, error: OSError, hint: str = "") -> SerowError:
    return SerowError(f"can't read {path}: {(error.strerror or 'unknown fault').lower()}", hint=hint)


def _split(sources: Sequence[str], base: Path) -> tuple[dict[str, Path], list[str]]:
    """FROM lines as files by the names they get, and names of models; raises SerowError for what can't go together."""
    from serow.store.folder import INDEX, SINGLE
    from serow.store.picture import is_single
    from serow.store.pipeline import refuse_single
    from serow.store.text_folder import CONFIG, is_one

    files: dict[str, Path] = {}
    names = []
    for text in sources:
        path = _path(text, base)
        is_path = _is_path(text)
        if path.is_dir() and (is_path or any(path.glob("*.gguf")) or (path / INDEX).is_file() or (path / CONFIG).is_file()):
            files |= _files_in(path)
        elif path.is_file() or is_path:
            given = {_free(each.name, files): each for each in _parts(_existing(text, base)) if each not in files.values()}
            files |= {f"{SINGLE}/{name}" if INDEX in files else name: each for name, each in given.items()}
        else:
            names.append(text)
    if len(names) > 1 or (names and files and not is_single(files)):
        raise RequestError("FROM lines name a model, or files of one: not both, and not two models")
    if INDEX not in files and not is_one(files) and not is_single(files):
        refuse_single(files)
    return files, names


def _parts(path: Path) -> list[Path]:
    """A file, or all the files of the split model that it is a part of; raises SerowError for one that is missing."""
    from serow.store.split import names_of

    return [_existing(name, path.parent) for name in names_of(path.name)]


def _files_in(folder: Path) -> dict[str, Path]:
    """The files of a diffusers pipeline or of a text model, else a folder's one GGUF file and its projector.

    Raises SerowError.
    """
    from serow.store import text_folder
    from serow.store.folder import INDEX
    from serow.store.pipeline import files_of
    from serow.store.split import names_of

    found = {path.name: path for path in sorted(folder.glob("*.gguf")) if path.is_file()}
    if not found and text_folder.is_one(path.name for path in folder.iterdir()) and not (folder / INDEX).is_file():
        return {path.name: path for path in sorted(folder.iterdir()) if text_folder.belongs(path.name) and path.is_file()}
    if (folder / INDEX).is_file() or not found:
        files, left_out = files_of(folder)
        for said in left_out:
            tell("warning", said)
        return files
    models = [name for name in found if _PROJECTOR not in name.lower()]
    sets = {tuple(names_of(name)) for name in models}
    if len(sets) != 1 or len(found) > len(models) + 1:
        raise SerowError(f"{folder} holds {len(found)} GGUF files", hint=f"name one with FROM: {', '.join(found)}")
    return found


def _path(text: str, base: Path) -> Path:
    try:
        return base / expanded(text)
    except ValueError as error:
        raise SerowError(str(error)) from None


def _existing(text: str, base: Path) -> Path:
    path = _path(text, base)
    if path.is_dir():
        raise SerowError(f"{path} is a directory", hint="an adapter is a GGUF file: convert_lora_to_gguf.py makes one")
    if not path.is_file():
        raise SerowError(f"there is no file {path}", hint="paths are relative to the folder of the Modelfile")
    return path


def _free(name: str, taken: dict[str, Path]) -> str:
    return name if name not in taken else f"{len(taken)}-{name}"


def _send(client: "Client", path: Path, *, may_link: bool, quiet: bool) -> str:
    """Bring a file to the server unless it has it, by a link where its store is on this machine; returns its digest."""
    with nullcontext() if quiet else progress.bar() as bar:

        def report(what: str, done: int, total: int) -> None:
            if bar is not None:
                bar.update(f"{what} {path.name}", done, total)

        sha256 = hashlib.sha256()
        for chunk in _chunks(path, partial(report, "hashing")):
            sha256.update(chunk)
        digest = f"sha256:{sha256.hexdigest()}"
        if not client.has_blob(digest) and not (may_link and _link(client, path, digest)):
            client.send_blob(digest, _chunks(path, partial(report, "copying")))
    return digest


def _link(client: "Client", path: Path, digest: str) -> bool:
    """Link a file into the store that the server has, if it is the one of this machine's settings (LIB-33)."""
    from serow import settings
    from serow.store.links import link, unlink

    root = settings.load().models
    if not link(path, root, digest):
        return False
    if client.has_blob(digest):
        return True
    unlink(root, digest)  # the server has another store
    return False


def _chunks(path: Path, report: Callable[[int, int], None]) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            while chunk := file.read(_CHUNK):
                yield chunk
                report(file.tell(), total)
    except OSError as error:
        raise _unreadable(path, error) from error
