"""Files of models over HTTP: whether one is there, and its upload, whole or in parts that go on where one broke off."""

import re

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import NotFound, RequestError
from serow.server.body import content
from serow.server.context import context

UPLOAD_OFFSET = "Upload-Offset"  # how many bytes of an upload are here
_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})")


async def head(request: Request) -> Response:
    """HEAD /api/blobs/{digest}: whether a blob is there, or how much of one that is uploaded in parts."""
    digest = request.path_params["digest"]
    if context(request).store.blobs.has(digest):
        return Response()
    if received := context(request).uploads.received(digest):
        return Response(status_code=404, headers={UPLOAD_OFFSET: str(received)})
    raise NotFound(f'blob "{digest}" not found')


async def create(request: Request) -> Response:
    """POST /api/blobs/{digest}: upload a file of any size, checked against its digest; with Content-Range a part of it."""
    digest, blobs = request.path_params["digest"], context(request).store.blobs
    if blobs.has(digest):
        context(request).store.keep(digest)
        return Response()
    if "content-range" in request.headers:
        return await _add_part(request, digest)
    async with blobs.writer(digest) as writer:
        async for chunk in content(request):
            await writer.write(chunk)
    return Response(status_code=201)


async def _add_part(request: Request, digest: str) -> Response:
    """Take the part of an upload that goes on where the last one ended, whole or broken off."""
    match = _RANGE.fullmatch(request.headers["content-range"])
    if match is None or int(match[1]) > int(match[2]) or int(match[2]) >= int(match[3]):
        raise RequestError("the Content-Range of a part is bytes FIRST-LAST/SIZE")
    uploads = context(request).uploads
    if await uploads.add(digest, int(match[1]), int(match[3]), content(request)):
        return Response(status_code=201)
    return Response(status_code=202, headers={UPLOAD_OFFSET: str(uploads.received(digest))})
