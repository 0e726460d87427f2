"""Pictures inside messages of OpenAI's dialects: what of a URL is taken, and what never is (OAI-05)."""

import re

from serow.errors import RequestError

_REMOTE = ("http://", "https://")
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]*")


def picture_data(url: str, param: str) -> str:
    """A data URI or bare base64, as it came; whatever type it names, the bytes are looked at. Nothing is ever fetched."""
    head = url[:256].lstrip().lower()
    if head.startswith(_REMOTE):
        text = "image URLs are not currently supported, please use base64 encoded data instead"
        raise RequestError(text, param=param, code="invalid_value")
    if not url or not (head.startswith("data:") or _BASE64.fullmatch(url[:256])):
        raise RequestError("invalid image input", param=param, code="invalid_value")
    return url
