"""Models of the store over HTTP: list, show, create, copy, delete, pull, push."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from serow import bounds
from serow.engines.diffusers import abilities
from serow.errors import InvalidModelName, ModelNotFound, RequestError, StoreError, TemplateError
from serow.gotemplate import parse
from serow.registries.address import literal
from serow.registries.asked import Asked
from serow.registries.credentials import Login
from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.responses import json_response, require
from serow.server.streaming import LastRecord, RecordLines, StreamResponse
from serow.settings import parse_rate
from serow.store.create import DROPPABLE, Recipe
from serow.store.model import Model
from serow.store.name import Name
from serow.store.show import show
from serow.store.store import Store
from serow.wire.json import convert, decode_object
from serow.wire.models import Freed, TagsModel, time_text

_PLAIN_JSON = "application/json"  # progress that is not streamed comes without a charset, as from the peer
_CONTROLS = dict.fromkeys((*range(32), 127), " ")  # which no header may hold
_EDITOR = "GitHubCopilotChat"  # in the User-Agent of VS Code, which shows models by what show tells of their files
_REPLACED = 3  # times that a model may go while it is shown
_Body = TypeVar("_Body", bound=Struct)


class _Named(Struct, frozen=True):
    """A body that names a model; `name` is the older field."""

    model: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return self.model or self.name


class ShowRequest(_Named, frozen=True):
    """Body of POST /api/show."""

    verbose: bool = False
    system: str = ""
    options: dict[str, Any] = {}


class CopyRequest(Struct, frozen=True):
    """Body of POST /api/copy."""

    source: str = ""
    destination: str = ""


class DeleteRequest(_Named, frozen=True):
    """Body of DELETE /api/delete."""

    dry_run: bool = False


class _Remote(_Named, frozen=True):
    """A body that names a model somewhere else. `rate`: most bytes a second, as a number or "10MiB"."""

    insecure: bool = False
    username: str = ""
    password: str = ""
    rate: int | str = 0
    stream: bool = True

    def asked(self, request: Request) -> Asked:
        """What is wanted, by whom; raises InvalidModelName, RequestError."""
        login = Login(self.username, self.password) if self.username or self.password else None
        return Asked.parse(self.text, insecure=self.insecure, is_local=_is_local(request), login=login, rate=_rate(self.rate))


class PullRequest(_Remote, frozen=True):
    """Body of POST /api/pull."""


class PushRequest(_Remote, frozen=True):
    """Body of POST /api/push."""


class CreateRequest(_Named, frozen=True):
    """Body of POST /api/create. `files`, `adapters`, `draft_files`: digests by path. Null leaves a text of `from` out."""

    insecure: bool = False
    source: str = msgspec.field(name="from", default="")
    files: dict[str, str] | None = None
    adapters: dict[str, str] = {}
    draft_files: dict[str, str] = {}
    draft: str = ""
    template: str = ""
    system: str = ""
    license: str | list[str] = ""
    parameters: dict[str, Any] = {}
    messages: list[dict[str, Any]] = []
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: dict[str, Any] = {}
    remote_host: str = ""
    remote_model: str = ""
    quantize: str = ""
    quantization: str = ""  # the older name
    draft_quantize: str = ""
    merge: bool = False
    stream: bool = True

    def recipe(self, dropped: frozenset[str] = frozenset()) -> Recipe:
        """What to make; raises InvalidModelName, RequestError, TemplateError."""
        _check_template(self.template)
        licenses = [self.license] if isinstance(self.license, str) else self.license
        recipe = Recipe(
            source=Name.parse(self.source) if self.source else None,
            files=self.files,
            adapters=self.adapters,
            draft_files=self.draft_files,
            draft=Name.parse(self.draft) if self.draft else None,
            template=self.template,
            system=self.system,
            license=tuple(text for text in licenses if text),
            parameters=self.parameters,
            messages=tuple(self.messages),
            renderer=self.renderer,
            parser=self.parser,
            requires=self.requires,
            info=self.info,
            remote_host=self.remote_host,
            remote_model=self.remote_model,
            quantize=self.quantize or self.quantization,
            draft_quantize=self.draft_quantize,
            merge=self.merge,
            dropped=dropped,
        )
        recipe.check()
        return recipe


def _check_template(template: str) -> None:
    try:
        parse(template)
    except TemplateError as error:
        raise TemplateError(f"template error: {error}") from None


async def tags(request: Request) -> Response:
    """GET /api/tags: every model of the store."""
    models = await asyncio.to_thread(context(request).store.list)
    return json_response({"models": [_tags_model(model) for model in models]})


async def show_model(request: Request) -> Response:
    """POST /api/show: everything about one model."""
    wanted, warnings = await _body(request, ShowRequest)
    require(wanted.text, "model is required")
    names_all = _EDITOR in request.headers.get("user-agent", "")
    shown = await asyncio.to_thread(_show, context(request).store, wanted, names_all)
    told = [*warnings, *(shown.warnings or ())]
    return json_response(msgspec.structs.replace(shown, warnings=told or msgspec.UNSET))


async def copy(request: Request) -> Response:
    """POST /api/copy: a second name for a model."""
    wanted, warnings = await _body(request, CopyRequest)
    source = _name(wanted.source, f'source "{bounds.quoted(wanted.source)}" is invalid')
    destination = _name(wanted.destination, f'destination "{bounds.quoted(wanted.destination)}" is invalid')
    await context(request).library.copy(source, destination, wanted.source)
    return _empty(warnings)


async def delete(request: Request) -> Response:
    """DELETE /api/delete: a name, and what only it needed."""
    wanted, warnings = await _body(request, DeleteRequest)
    require(wanted.text, "model is required")
    name, library = _name(wanted.text, f'name "{bounds.quoted(wanted.text)}" is invalid'), context(request).library
    if wanted.dry_run:
        return json_response(Freed(await library.freed(name, wanted.text)))
    return _empty([*warnings, *await library.delete(name, wanted.text)])


async def create(request: Request) -> Response:
    """POST /api/create: a model from another one or from uploaded files."""
    wanted, recipe, warnings = await decoded(request, _read_recipe)
    current().model = wanted.text
    source = Asked.parse(wanted.source, insecure=wanted.insecure, is_local=_is_local(request)) if wanted.source else None
    made = context(request).library.create(Name.parse(wanted.text), recipe, source)
    return progress(_telling(made, warnings), wanted.stream)


async def pull_model(request: Request) -> Response:
    """POST /api/pull: a model from where models come from."""
    wanted, warnings = await _body(request, PullRequest)
    return progress(_telling(context(request).library.pull(wanted.asked(request)), warnings), wanted.stream)


async def push_model(request: Request) -> Response:
    """POST /api/push: a model to the registry that its name says."""
    wanted, warnings = await _body(request, PushRequest)
    require(wanted.text, "model is required")
    return progress(_telling(context(request).library.push(wanted.asked(request)), warnings), wanted.stream)


async def _body(request: Request, kind: type[_Body]) -> tuple[_Body, list[str]]:
    """A body, and a warning for each field that nothing reads."""
    body, warnings = await decoded(request, lambda data: _read(decode_object(data), kind))
    if isinstance(body, _Named):
        current().model = body.text
    return body, warnings


def _read(fields: dict[str, Any], kind: type[_Body]) -> tuple[_Body, list[str]]:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    return convert(fields, kind), bounds.ignored("field", [name for name in fields if name not in known])


def _empty(warnings: list[str]) -> Response:
    """An answer without a body, as the peer has it: its warnings stand in a header."""
    told = "; ".join(warnings).encode("ascii", "replace").decode().translate(_CONTROLS)
    return Response(headers={"X-Serow-Warnings": told} if warnings else None)


async def _telling(records: AsyncGenerator[dict[str, Any], None], warnings: list[str]) -> AsyncGenerator[dict[str, Any], None]:
    """Progress whose last record tells the warnings too."""
    async with aclosing(records) as each:
        async for record in each:
            is_last = record.get("status") == "success"
            yield {**record, "warnings": [*warnings, *record.get("warnings", ())]} if is_last and warnings else record


def _read_recipe(body: bytes) -> tuple[CreateRequest, Recipe, list[str]]:
    """A body of /api/create, the recipe in it, and its warnings."""
    fields = decode_object(body, nulls=DROPPABLE)
    dropped = frozenset(name for name, value in fields.items() if value is None)
    wanted, warnings = _read({name: value for name, value in fields.items() if value is not None}, CreateRequest)
    Name.parse(wanted.text)
    return wanted, wanted.recipe(dropped), warnings


def _is_local(request: Request) -> bool:
    """Whether a client is on this machine, and may name any registry (LIB-03)."""
    address = literal(request.client.host) if request.client and request.client.host else None
    mapped = getattr(address, "ipv4_mapped", None)
    return address is None or (mapped or address).is_loopback


def _rate(given: int | str) -> int:
    try:
        return parse_rate(str(given))
    except ValueError:
        raise RequestError('"rate" must be bytes a second, as 10485760 or "10MiB"') from None


def _name(text: str, complaint: str) -> Name:
    try:
        return Name.parse(text)
    except InvalidModelName as error:
        raise RequestError(complaint, hint=error.hint) from None


def _show(store: Store, wanted: ShowRequest, names_all: bool) -> Any:
    for _ in range(_REPLACED):  # it may be deleted, and made anew, while it is read
        with suppress(StoreError):
            return _shown(store, wanted, names_all)
    return _shown(store, wanted, names_all)


def _shown(store: Store, wanted: ShowRequest, names_all: bool) -> Any:
    name = Name.parse(wanted.text)
    if not store.has(name):
        raise ModelNotFound(name.display_shortest)
    model = store.resolve(wanted.text)
    shown = show(
        model,
        time_text(model.modified_at),
        verbose=wanted.verbose,
        system=wanted.system,
        options=wanted.options,
        names_all=names_all,
        read=store.heads.info,
    )
    further = store.further_of(name)
    shown = msgspec.structs.replace(shown, store=msgspec.UNSET if further is None else str(further))
    return abilities.told(shown, model.picture_hints)


def _tags_model(model: Model) -> TagsModel:
    assert model.details is not None
    name = model.name.display_shortest
    details = msgspec.structs.replace(
        model.details,
        context_length=model.declared_context_length or model.context_length,
        embedding_length=model.declared_embedding_length or model.embedding_length,
    )
    return TagsModel(
        name=name,
        model=name,
        modified_at=time_text(model.modified_at),
        size=model.size,
        digest=model.digest,
        details=details,
        capabilities=list(model.capabilities),
        remote_model=model.remote_model or msgspec.UNSET,
        remote_host=model.remote_host or msgspec.UNSET,
    )


def progress(records: AsyncGenerator[dict[str, Any], None], stream: bool) -> Response:
    """Records of work in progress, or the last one alone."""
    return StreamResponse(records, RecordLines(), LastRecord(), streams=stream, whole_type=_PLAIN_JSON)
