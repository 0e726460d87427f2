"""Hugging Face's own API, for what its /v2/ refuses: weights in several files, diffusers folders (LIB-25).

A commit is fixed once for the whole pull. Large files have their SHA-256 in the tree, which is our digest; small ones are
hashed as they come. Which files belong to a name is decided as llama.cpp's `-hf` does.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from serow.errors import NotAtRegistry, RegistryError, RegistryRefused
from serow.registries.base import Body, Found, Interrupted
from serow.registries.http import BROKEN
from serow.registries.oci import OciRegistry
from serow.registries.words import words
from serow.store import folder
from serow.store import manifest as media
from serow.store.manifest import Config, Layer, encode, encode_config

_TREE_LIMIT = 16 << 20  # bytes of a page
_MOST_PAGES = 20
_SMALL = 4 << 20  # bytes of a file that is fetched to be hashed
_DEFAULT_QUANT = "Q4_K_M"
_NO_MODELS = re.compile(r"mmproj|imatrix|(^|/)(mtp|eagle3|dflash)-", re.IGNORECASE)
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.ASCII)
_BITS = re.compile(r"(?:^|[-._])(?:bf|f|fp|i?q)(\d{1,2})(?:[-._]|$)", re.IGNORECASE | re.ASCII)
_TEXTS = {"template": media.TEMPLATE, "system": media.SYSTEM, "params": media.PARAMS}


@dataclass(frozen=True)
class File:
    """A file of a repository. `digest` is "" for a small one, whose bytes are not known yet."""

    path: str
    size: int
    digest: str

    @property
    def folder(self) -> str:
        """Where it lies."""
        return self.path.rpartition("/")[0]


class HubRepository:
    """One repository, asked by the Hub's API. `oci` is the same repository's /v2/, whose connections it uses."""

    def __init__(self, oci: OciRegistry) -> None:
        self._oci = oci
        self.host = oci.host
        self._commit = ""
        self._paths: dict[str, str] = {}  # by digest

    def retain(self) -> None:
        """Use the repository until `release`."""
        self._oci.retain()

    async def release(self) -> None:
        """End a use."""
        await self._oci.release()

    async def resolve(self) -> Found:
        """The files that belong to the name, as a manifest; raises NotAtRegistry, RegistryRefused, RegistryError."""
        try:
            refs = await self._json(f"api/models/{self._oci.repository}/refs")
            self._commit = _commit_of(refs)
            files = [file async for file in self._tree()]
            info = await self._json(f"api/models/{self._oci.repository}")
            return await self._manifest(files, info if isinstance(info, dict) else {})
        except BROKEN as error:
            raise RegistryError(f'pull model manifest: Get "https://{self.host}/api/…": {words(error)}') from error

    async def _manifest(self, files: Sequence[File], info: dict[str, Any]) -> Found:
        weights = choose(files, self._oci.tag)
        content: dict[str, bytes] = {}
        if weights:
            layers = [self._layer(file, media.WEIGHTS, is_named=len(weights) > 1) for file in weights]
            if eye := choose_projector(files, weights[0]):
                layers.append(self._layer(eye, media.PROJECTOR))
            for file in files:
                if file.path in _TEXTS and file.size <= _SMALL:
                    layers.append(await self._text_layer(file, _TEXTS[file.path], content))
            config = _config(info, weights[0])
            notes = (f"taking {', '.join(file.path for file in weights)} of {self._oci.repository}",)
        elif any(file.path == folder.INDEX for file in files):
            layers = [await self._pipeline_layer(file, content) for file in _pipeline_files(files)]
            config, notes = Config(model_format="diffusers", capabilities=["image"]), (f"taking {self._oci.repository} whole",)
        else:
            raise NotAtRegistry("pull model manifest: file does not exist")
        data = encode_config(config)
        content[_digest(data)] = data
        top = Layer(media_type=media.CONFIG, digest=_digest(data), size=len(data))
        whole = encode({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": top, "layers": layers})
        return Found(whole, media.decode_manifest(whole), notes, content)

    def _layer(self, file: File, media_type: str, *, is_named: bool = False) -> Layer:
        if not file.digest:
            raise RegistryError(f"pull model manifest: {self.host} tells no digest of {file.path}")
        self._paths[file.digest] = file.path
        name = file.path.rpartition("/")[2] if is_named else ""
        return Layer(media_type=media_type, digest=file.digest, size=file.size, name=name)

    async def _text_layer(self, file: File, media_type: str, content: dict[str, bytes], name: str = "") -> Layer:
        data = await self._small(file)
        content[_digest(data)] = data
        return Layer(media_type=media_type, digest=_digest(data), size=len(data), name=name)

    async def _pipeline_layer(self, file: File, content: dict[str, bytes]) -> Layer:
        if file.digest:
            self._paths[file.digest] = file.path
            return Layer(media_type=media.PIPELINE_FILE, digest=file.digest, size=file.size, name=file.path)
        return await self._text_layer(file, media.PIPELINE_FILE, content, file.path)

    async def _url(self, path: str) -> str:
        await self._oci.url("")
        return f"{await self._oci.client.base()}/{path}"

    async def _json(self, path: str) -> Any:
        data, _ = await self._page(await self._url(path))
        try:
            return msgspec.json.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            raise RegistryError(f"pull model manifest: {self.host} does not speak the Hub's API") from None

    async def _page(self, url: str) -> tuple[bytes, str]:
        """A page, and the address of the next one."""
        async with self._oci.open("GET", url) as response:
            if response.status in (404, 410):
                raise NotAtRegistry("pull model manifest: file does not exist")
            if response.status in (401, 403):
                text = await self._oci.message(response) or "access denied"
                hint = "set HF_TOKEN to a token of an account that may read it: huggingface.co/settings/tokens"
                raise RegistryRefused(f"pull model manifest: {response.status}: {text}", hint=hint)
            if response.status != 200:
                raise RegistryError(f"pull model manifest: {response.status}: {await self._oci.message(response)}")
            following = response.links.get("next")
            link = str(following["url"]) if following else ""
            return await self._oci.client.read(response, _TREE_LIMIT, "the list of files"), link

    async def _tree(self) -> AsyncIterator[File]:
        url = await self._url(f"api/models/{self._oci.repository}/tree/{self._commit}?recursive=true")
        for _ in range(_MOST_PAGES):
            data, following = await self._page(url)
            for entry in _entries(data, self.host):
                yield entry
            if not following:
                return
            url = self._oci.client.location(url, following)
        raise RegistryError("pull model manifest: the repository has too many files")

    async def _small(self, file: File) -> bytes:
        url = await self._url(f"{self._oci.repository}/resolve/{self._commit}/{quote(file.path)}")
        async with self._oci.open("GET", url) as response:
            if response.status != 200:
                raise RegistryError(f"pull model manifest: {file.path}: unexpected status code {response.status}")
            return await self._oci.client.read(response, _SMALL, file.path)

    @asynccontextmanager
    async def fetch(self, layer: Layer, first: int, last: int) -> AsyncIterator[Body]:
        """Bytes of a file, from the storage that the Hub names."""
        path = self._paths.get(layer.digest)
        if path is None:
            raise NotAtRegistry(f"file does not exist: {self.host} has no blob {layer.digest[:19]}")
        try:
            url = await self._url(f"{self._oci.repository}/resolve/{self._commit}/{quote(path)}")
        except BROKEN as error:
            raise Interrupted(words(error)) from error
        async with self._oci.fetch_from(url, layer, first, last) as body:
            yield body


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _commit_of(refs: Any) -> str:
    branches = refs.get("branches") if isinstance(refs, dict) else None
    for branch in branches if isinstance(branches, list) else ():
        commit = branch.get("targetCommit") if isinstance(branch, dict) and branch.get("name") == "main" else None
        if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40,64}", commit):
            return commit
    raise NotAtRegistry("pull model manifest: file does not exist")


def _entries(data: bytes, host: str) -> Iterator[File]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        raise RegistryError(f"pull model manifest: {host} does not speak the Hub's API") from None
    for entry in found if isinstance(found, list) else ():
        if not isinstance(entry, dict) or entry.get("type") != "file" or not isinstance(entry.get("path"), str):
            continue
        large: dict[str, Any] = entry["lfs"] if isinstance(entry.get("lfs"), dict) else {}
        oid, size = large.get("oid", ""), large.get("size", entry.get("size"))
        if type(size) is int and 0 <= size <= 2**53:
            is_known = isinstance(oid, str) and re.fullmatch(r"[0-9a-f]{64}", oid)
            yield File(entry["path"], size, f"sha256:{oid}" if is_known else "")


def choose(files: Sequence[File], tag: str) -> list[File]:
    """The weights that a tag names: a quant in any case, or a file's name; all parts of a split model, in order."""
    models = sorted((file for file in files if _is_model(file.path)), key=lambda file: file.path)
    wanted = _DEFAULT_QUANT if tag.lower() == "latest" else tag
    found = [file for file in models if _names(file.path, wanted)]
    if not found and tag.lower() == "latest":
        found = models[:1]
    if not found:
        return []
    match = _SPLIT.fullmatch(found[0].path)
    if match is None:
        return found[:1]
    parts = [
        file for file in models if (other := _SPLIT.fullmatch(file.path)) and other[1] == match[1] and other[3] == match[3]
    ]
    if len(parts) != int(match[3]):
        raise RegistryError(f"pull model manifest: {match[1]} has {len(parts)} of its {int(match[3])} parts")
    return parts


def choose_projector(files: Sequence[File], weights: File) -> File | None:
    """The eye of a model: from the deepest folder that both share, then of the nearest width of bits."""
    eyes = [file for file in files if "mmproj" in file.path.lower() and file.path.lower().endswith(".gguf")]
    shared = [file for file in eyes if f"{weights.folder}/".startswith(f"{file.folder}/" if file.folder else "")]
    wanted = _bits(weights.path)
    return min(shared, key=lambda file: (-file.path.count("/"), abs(_bits(file.path) - wanted), file.path), default=None)


def _is_model(path: str) -> bool:
    return path.lower().endswith(".gguf") and not _NO_MODELS.search(path)


def _names(path: str, tag: str) -> bool:
    """Whether a file's name holds a quant, or is the name that was asked for."""
    name = path.rpartition("/")[2].lower()
    if name in (tag.lower(), f"{tag.lower()}.gguf"):
        return True
    return re.search(rf"(?:^|[-._/]){re.escape(tag.lower())}(?:[-._/]|$)", path.lower()) is not None


def _bits(path: str) -> int:
    match = _BITS.search(path.rpartition("/")[2])
    return int(match[1]) if match else 16


def _config(info: dict[str, Any], weights: File) -> Config:
    facts = info.get("gguf") if isinstance(info.get("gguf"), dict) else {}
    card = info.get("cardData") if isinstance(info.get("cardData"), dict) else {}
    family = facts.get("architecture") if isinstance(facts, dict) else None
    licence = card.get("license") if isinstance(card, dict) else None
    return Config(
        model_format="gguf",
        model_family=family if isinstance(family, str) else None,
        model_families=[family] if isinstance(family, str) else None,
        extra={"license": licence} if isinstance(licence, str) else {},
    )


def _pipeline_files(files: Sequence[File]) -> list[File]:
    """The files of a diffusers folder that make its model; raises ModelFileError for weights that are pickles only."""
    kept = set(folder.choose(file.path for file in files).kept)
    return [file for file in files if file.path in kept]
