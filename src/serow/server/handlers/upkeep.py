"""Looking after the store over HTTP: what belongs to nothing, what is broken, what was not fetched to its end."""

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from serow.duration import parse_keep_alive
from serow.server.body import decoded
from serow.server.context import context
from serow.server.handlers.models import progress
from serow.server.responses import json_response
from serow.store.name import Name
from serow.wire.json import convert, decode_object
from serow.wire.models import PartialModel, Partials, Pruned, WasteItem


class PruneRequest(Struct, frozen=True):
    """Body of POST /api/prune. `older`: how old something has to be, as "1h"."""

    dry_run: bool = False
    older: str = "1h"


class VerifyRequest(Struct, frozen=True):
    """Body of POST /api/verify. `model`: which one; all when it is empty."""

    model: str = ""
    stream: bool = True


async def prune(request: Request) -> Response:
    """POST /api/prune: remove what belongs to no model."""
    wanted = await decoded(request, lambda data: convert(decode_object(data or b"{}"), PruneRequest))
    found = await context(request).library.prune(parse_keep_alive(wanted.older), dry_run=wanted.dry_run)
    items = [WasteItem(waste.kind, waste.what, waste.size, waste.is_removed) for waste in found]
    return json_response(Pruned(items))


async def verify(request: Request) -> Response:
    """POST /api/verify: read the files of a model again, or of all."""
    wanted = await decoded(request, lambda data: convert(decode_object(data or b"{}"), VerifyRequest))
    name = Name.parse(wanted.model) if wanted.model else None
    return progress(context(request).library.verify(name), wanted.stream)


async def partials(request: Request) -> Response:
    """GET /api/partials: what unfinished downloads have left."""
    found = await context(request).library.partials()
    return json_response(
        Partials([PartialModel(each.name, each.digest, each.size, each.completed, each.age) for each in found])
    )
